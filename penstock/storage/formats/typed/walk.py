"""The recursion of the typed JSON codec, independent of the kinds of values.

An `Encoder` turns a value into a JSON document, and a `Decoder` a document into a value. The modules `plain`,
`packages` and `objects` handle the kinds of values, and docs/values.md specifies their forms.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from penstock.errors import SerializationError

Part = Callable[[Any], int | None]
"""Called for each leaf without a form in JSON (a table, an array, an object of an ordinary class). Returns the number
of its part, or None if it has none."""
Parts = Sequence[Any] | Callable[[int], Any]
"""The values of the parts by number."""
Form = Callable[[Any, "Encoder"], Any]
Maker = Callable[[Any, "Decoder"], Any]

MAX_DEPTH = 100
"""The most levels of nesting. Deeper values could not be read if the stack is partly used."""
MAX_DIGITS = 4000
"""The most digits of an int in decimal notation: Python refuses to read more than 4300."""
_LONG = 10**MAX_DIGITS


class Unkept(Exception):
    """Typed JSON cannot encode a part of a value."""

    def __init__(self, leaf: Any, where: str, because: str = "") -> None:
        super().__init__(where, because)
        self.leaf = leaf
        self.where = where
        """The path of the part, such as `["model"][0].name`; empty for the value itself."""
        self.because = because


class Encoder:
    """Encodes one value. `form_of(kind)` returns the form of a kind of values, or None."""

    def __init__(self, form_of: Callable[[type], Form | None], part: Part | None = None) -> None:
        self._form_of = form_of
        self._forms: dict[type, Form | None] = {}
        self._part = part
        self._pointer: list[str | int] = []
        self._steps: list[str] = []
        self._seen: dict[int, tuple[str | None, Any]] = {}
        self._shapes: dict[type, Any] = {}
        self.paths: list[Any] = []
        """The file system paths found so far."""
        self.unproven = False
        """Whether there was a value that only a trial proves to be preserved: of users' classes or packages."""

    def value(self, value: Any) -> Any:
        """Return the form of a value. Raises `Unkept`."""
        kind = type(value)
        if kind is str:
            return value if is_text(value) else {"$str": value.encode("utf-16-le", "surrogatepass").hex()}
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if -_LONG < value < _LONG else {"$int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else special_float(value)
        if kind not in self._forms:
            self._forms[kind] = self._form_of(kind)
        form = self._forms[kind]
        if form is not None:
            return form(value, self)
        number = None if self._part is None else self._part(value)
        if number is None:
            raise self.unkept(value)
        return {"$part": number}

    def shape(self, kind: type, shape_of: Callable[[type], Any]) -> Any:
        """Return `shape_of(kind)`, called once for each class."""
        found = self._shapes.get(kind)
        if found is None:
            found = self._shapes[kind] = shape_of(kind)
        return found

    def at(self, key: Sequence[str | int], step: str, value: Any) -> Any:
        """Return the form of a part. `key` is its relative position in the document."""
        if len(self._steps) >= MAX_DEPTH:
            raise self.unkept(value, f"it is nested deeper than {MAX_DEPTH} levels")
        self._pointer.extend(key)
        self._steps.append(step)
        try:
            return self.value(value)
        finally:
            self._steps.pop()
            del self._pointer[-len(key) :]

    def once(self, value: Any, form: Form) -> Any:
        """Return the form of a value with an identity; further occurrences refer to the first one."""
        known = self._seen.get(id(value))
        if known is not None:
            if known[0] is None:
                raise self.unkept(value, "it contains itself")
            return {"$same": known[0]}
        self._seen[id(value)] = (None, value)
        made = form(value, self)
        self._seen[id(value)] = (_written(self._pointer), value)
        return made

    @contextlib.contextmanager
    def trying(self) -> Iterator[None]:
        """Do not record occurrences in the block."""
        seen = dict(self._seen)
        yield
        self._seen = seen

    def unkept(self, leaf: Any, because: str = "") -> Unkept:
        """Return the exception for a leaf at the present location."""
        return Unkept(leaf, "".join(self._steps), because)


class Decoder:
    """Decodes one document. `makers` are the decoders by tag."""

    def __init__(self, makers: Mapping[str, Maker], document: Any, parts: Parts, *, shares: bool) -> None:
        self._makers = makers
        self._document = document
        self._parts = parts
        self._made: dict[int, Any] | None = {} if shares else None
        self._found: dict[Any, Any] = {}

    def value(self, node: Any) -> Any:
        """Return the value of a node of the document. Raises any exception for an invalid document."""
        kind = type(node)
        if kind is list:
            made: Any = [self.value(item) for item in node]
        elif kind is dict:
            tag = next(iter(node), "")
            if tag[:1] != "$":
                made = {key: self.value(item) for key, item in node.items()}
            else:
                made = self._tagged(tag, node)
        else:
            return node
        if self._made is not None:
            self._made[id(node)] = made
        return made

    def once(self, what: Any, find: Callable[[], Any]) -> Any:
        """Return `find()`, called once for each `what`."""
        if what not in self._found:
            self._found[what] = find()
        return self._found[what]

    def _tagged(self, tag: str, node: dict[str, Any]) -> Any:
        if tag == "$part":
            number = int(node[tag])
            return self._parts(number) if callable(self._parts) else self._parts[number]
        if tag == "$same":
            return self._same(node[tag])
        maker = self._makers.get(tag)
        if maker is None:
            raise SerializationError(
                f"typed JSON contains the unknown tag {tag!r}", hint="upgrade Penstock on this machine"
            )
        return maker(node, self)

    def _same(self, pointer: str) -> Any:
        node = self._document
        for key in pointer.split("/")[1:]:
            node = node[int(key) if type(node) is list else key.replace("~1", "/").replace("~0", "~")]
        assert self._made is not None  # set if the text contains this tag
        return self._made[id(node)]


def is_text(value: str) -> bool:
    """Return whether a str can be encoded as UTF-8."""
    return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)


def special_float(value: float) -> dict[str, str]:
    """Return the form of a NaN or infinity. A NaN other than Python's own is represented by its bits."""
    bits = struct.pack(">d", value)
    if math.isnan(value) and bits != _NAN:
        return {"$float": bits.hex()}
    return {"$float": repr(value)}


def make_float(text: str) -> float:
    """Return the float that `special_float` encoded."""
    if len(text) == 16:
        bits: float = struct.unpack(">d", bytes.fromhex(text))[0]
        return bits
    return float(text)


_NAN = struct.pack(">d", math.nan)


def _written(pointer: Sequence[str | int]) -> str:
    return "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in pointer)
