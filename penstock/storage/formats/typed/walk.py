"""The walk of the typed JSON codec: what goes down a value and up again, whatever kinds of values there are.

An `Encoder` turns a value into a document of what JSON has; a `Decoder` the document into the value. The kinds
themselves are in `typed_plain`, `typed_packages` and `typed_objects`, and what they look like in docs/values.md.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from penstock.errors import SerializationError

Part = Callable[[Any], int | None]
"""Is asked for each leaf that has no form in JSON (a table, an array, an object of a class like any other): the number
of the part that holds it, or None if there is no place for it."""
Parts = Sequence[Any] | Callable[[int], Any]
"""The values of the parts, by their numbers."""
Form = Callable[[Any, "Encoder"], Any]
Maker = Callable[[Any, "Decoder"], Any]

MAX_DEPTH = 100
"""Levels that a value may be nested. More could not be read where the stack is in use already."""
MAX_DIGITS = 4000
"""Of an int in decimals: Python refuses to read more than 4300."""
_LONG = 10**MAX_DIGITS


class Unkept(Exception):
    """Something in a value is not kept by typed JSON."""

    def __init__(self, leaf: Any, where: str, because: str = "") -> None:
        super().__init__(where, because)
        self.leaf = leaf
        self.where = where
        """How to get there from the value, such as `["model"][0].name`; empty for the value itself."""
        self.because = because


class Encoder:
    """One value's way into a document. `form_of(kind)` gives the form of a kind of values, None if it has none."""

    def __init__(self, form_of: Callable[[type], Form | None], part: Part | None = None) -> None:
        self._form_of = form_of
        self._forms: dict[type, Form | None] = {}
        self._part = part
        self._pointer: list[str | int] = []
        self._steps: list[str] = []
        self._seen: dict[int, tuple[str | None, Any]] = {}
        self._shapes: dict[type, Any] = {}
        self.paths: list[Any] = []
        """The paths of this system that were met."""
        self.unproven = False
        """Whether there was something of which only a trial tells that it comes back: users' classes, packages."""

    def value(self, value: Any) -> Any:
        """What stands for `value` in the document. Raises `Unkept`."""
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
        """What `shape_of(kind)` says of a class, asked once in a walk."""
        found = self._shapes.get(kind)
        if found is None:
            found = self._shapes[kind] = shape_of(kind)
        return found

    def at(self, key: Sequence[str | int], step: str, value: Any) -> Any:
        """As `value`, for what lies a step below; `key` is where the document has it, from here."""
        if len(self._steps) >= MAX_DEPTH:
            raise self.unkept(value, f"it is nested more than {MAX_DEPTH} deep")
        self._pointer.extend(key)
        self._steps.append(step)
        try:
            return self.value(value)
        finally:
            self._steps.pop()
            del self._pointer[-len(key) :]

    def once(self, value: Any, form: Form) -> Any:
        """The form of a value that can be told from an equal one: where it occurs again it is the same again."""
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
        """Within the block, what is met does not count as met."""
        seen = dict(self._seen)
        yield
        self._seen = seen

    def unkept(self, leaf: Any, because: str = "") -> Unkept:
        """The exception for a leaf at this place."""
        return Unkept(leaf, "".join(self._steps), because)


class Decoder:
    """A document's way back into a value. `makers` are by tag."""

    def __init__(self, makers: Mapping[str, Maker], document: Any, parts: Parts, *, shares: bool) -> None:
        self._makers = makers
        self._document = document
        self._parts = parts
        self._made: dict[int, Any] | None = {} if shares else None
        self._found: dict[Any, Any] = {}

    def value(self, node: Any) -> Any:
        """The value that a node of the document stands for. Raises whatever a wrong document leads to."""
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
        """What `find` finds, asked once in a walk."""
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
            raise SerializationError(f"typed JSON holds the unknown {tag!r}", hint="upgrade Penstock here")
        return maker(node, self)

    def _same(self, pointer: str) -> Any:
        node = self._document
        for key in pointer.split("/")[1:]:
            node = node[int(key) if type(node) is list else key.replace("~1", "/").replace("~0", "~")]
        assert self._made is not None  # it is there whenever the text holds this tag
        return self._made[id(node)]


def is_text(value: str) -> bool:
    """Whether a str can be written as UTF-8."""
    return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)


def special_float(value: float) -> dict[str, str]:
    """The form of a NaN or infinity: a NaN that is not Python's own by its bits."""
    bits = struct.pack(">d", value)
    if math.isnan(value) and bits != _NAN:
        return {"$float": bits.hex()}
    return {"$float": repr(value)}


def make_float(text: str) -> float:
    """What `special_float` wrote."""
    if len(text) == 16:
        bits: float = struct.unpack(">d", bytes.fromhex(text))[0]
        return bits
    return float(text)


_NAN = struct.pack(">d", math.nan)


def _written(pointer: Sequence[str | int]) -> str:
    return "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in pointer)
