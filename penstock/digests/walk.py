"""The Merkle walk behind all digests: leaves, nodes, and the path to a value that has no digest.

A leaf hashes `tag NUL bytes`; a node hashes `tag NUL` and the digests of its parts. Tags contain no NUL, and no two
kinds of value share one. The modules `python` (Python's own types) and `columns` (arrays, tables) define what each type
contributes.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import functools
import struct
import uuid
from collections.abc import Callable, Iterable
from types import FunctionType, MemberDescriptorType
from typing import Any

from blake3 import blake3

from penstock.checksums import new_hash
from penstock.digests.code.syntax import function_code_digest
from penstock.digests.names import stable_name
from penstock.digests.refs import Ref
from penstock.errors import DigestError
from penstock.objects.questions import ask

SIZE = 20
"""The number of bytes in a digest."""
MAX_DEPTH = 200
"""Values nested deeper than this are refused. (Pickle and JSON fail at a slightly greater depth.)"""

Resolve = Callable[[Ref], str]
Leaf = Callable[[Any], bytes]
Branch = Callable[[Any, "Walk"], bytes]

# Digests are only cached below this depth: broad, flat values would use much memory without a benefit.
_REMEMBER_BELOW = 6
_SHOWN_STEPS = 12
_CONTAINS_ITSELF = "the value contains itself"
_TOO_DEEP = "the value is nested too deeply for the remaining stack"
_WAYS_OUT_OF_SELF = (
    'give its class a digest with register_digest(), exclude it from the key with `- "self"` (all instances then share '
    "results), or use NO_CACHE"
)
_WAYS_OUT = "give its type a digest with register_digest(), or use NO_CACHE"
_EXCLUDED = 'exclude it from the key with `- "{name}"`, '
"""Another way out, for a parameter."""


class UndigestibleError(Exception):
    """Internal: a part has no digest. The path to it is added while the stack unwinds."""

    def __init__(self, what: str, *, because: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.because = because
        self.hint = hint
        self.steps: list[str] = []

    def as_error(self, where: str, name: str) -> DigestError:
        path = where + "".join(reversed(self.steps[-_SHOWN_STEPS:]))
        excluded = _EXCLUDED.format(name=name) if name else ""
        ways_out = _WAYS_OUT_OF_SELF if name == "self" else excluded + _WAYS_OUT
        return DigestError(self.what, where=path, because=self.because, hint=self.hint or ways_out)


class Walk:
    """The state of one computation of a digest."""

    __slots__ = ("code", "find", "functions", "memo", "resolve", "stack")

    def __init__(
        self,
        resolve: Resolve | None,
        find: Callable[[type], Branch],
        code: Callable[[FunctionType], bytes] = function_code_digest,
    ) -> None:
        self.resolve = resolve
        self.find = find
        self.code = code
        self.stack: list[int] = []
        self.memo: dict[int, tuple[object, bytes]] = {}
        self.functions: list[object] = []
        """The functions, and the classes that functions made, that are being digested."""

    def of(self, value: Any) -> bytes:
        """Return the digest of a part of the value being digested."""
        leaf = LEAVES.get(type(value))
        return leaf(value) if leaf is not None else self.visit(value)

    def at(self, step: str, value: Any) -> bytes:
        """Return what `of` returns, and name the step in errors."""
        try:
            leaf = LEAVES.get(type(value))
            return leaf(value) if leaf is not None else self.visit(value)
        except UndigestibleError as problem:
            problem.steps.append(step)
            raise

    def run(self, compute: Callable[[Any], bytes], value: Any, where: str, name: str) -> bytes:
        """Return `compute(value)`, which uses this walk. Raises `DigestError` for parts that have no digest or are
        nested too deeply."""
        try:
            return compute(value)
        except UndigestibleError as problem:
            raise problem.as_error(where, name) from problem.__cause__
        except RecursionError:
            again = len(set(self.stack)) < len(self.stack)
            raise UndigestibleError(_CONTAINS_ITSELF if again else _TOO_DEEP).as_error(where, name) from None

    def recursion(self, code: object) -> bytes | None:
        """Return the digest of a function or class inside itself; None if it is not being digested."""
        for distance, outer in enumerate(reversed(self.functions), start=1):
            if outer is code:
                return hash_leaf(b"recursion", b"%x" % distance)
        return None

    def visit(self, value: Any) -> bytes:
        """Return the digest of a value that is not a leaf."""
        branch = self.find(type(value))
        stack = self.stack
        if len(stack) < _REMEMBER_BELOW:
            stack.append(id(value))
            result = branch(value, self)
        else:
            known = self.memo.get(id(value))
            if known is not None:
                return known[1]
            if len(stack) >= MAX_DEPTH:
                again = id(value) in stack
                raise UndigestibleError(_CONTAINS_ITSELF if again else f"nested deeper than {MAX_DEPTH} levels")
            stack.append(id(value))
            result = branch(value, self)
            if not self.functions:  # inside a function, a digest may depend on the functions around it
                self.memo[id(value)] = (value, result)  # keeps the value alive, so that its id stays unique
        stack.pop()
        return result


# -- building blocks -------------------------------------------------------------------------------------------------


def hash_node(tag: bytes, parts: Iterable[bytes]) -> bytes:
    """Return the digest of a container: the hash of its tag and the digests of its parts."""
    return blake3(tag + b"\0" + b"".join(parts)).digest(SIZE)


def hash_leaf(tag: bytes, payload: bytes) -> bytes:
    """Return the digest of a leaf: the hash of its tag and its bytes."""
    return blake3(tag + b"\0" + payload).digest(SIZE)


def hash_buffers(tag: bytes, buffers: Iterable[Any], *, nbytes: int) -> bytes:
    """Return the digest of a leaf given as contiguous buffers of `nbytes` in total, without copying them."""
    hasher = new_hash(nbytes=nbytes)
    hasher.update(tag + b"\0")
    for buffer in buffers:
        hasher.update(buffer)
    return hasher.digest(SIZE)


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an instance from its `__dict__` and slots, without cached properties."""
    cls = type(value)
    found = {
        name: item
        for name, item in tuple(ask(value, "__dict__", {}).items())  # other threads may add to it
        if not isinstance(ask(cls, name), functools.cached_property)
    }
    for base in cls.__mro__:
        if "__slots__" not in base.__dict__:
            continue
        # By descriptor, because the names of private slots are mangled.
        for name, member in base.__dict__.items():
            if type(member) is MemberDescriptorType:
                try:
                    found.setdefault(name, member.__get__(value))
                except AttributeError:  # an empty slot
                    continue
    return found


# -- leaves ----------------------------------------------------------------------------------------------------------


def hash_int(value: int) -> bytes:
    return _SMALL_INTS.get(value) or blake3(b"int\0%x" % value).digest(SIZE)


_SMALL_INTS: dict[int, bytes] = {number: blake3(b"int\0%x" % number).digest(SIZE) for number in range(-8, 257)}


def hash_str(value: str) -> bytes:
    try:
        return blake3(b"str\0" + value.encode()).digest(SIZE)
    except UnicodeEncodeError:  # lone surrogates, as in file names that are not valid UTF-8
        return blake3(b"str\0" + value.encode("utf-8", "surrogatepass")).digest(SIZE)


label = functools.lru_cache(maxsize=4096)(hash_str)
"""The digest of a string that occurs often: a field, a column, a key."""

CANONICAL_NAN = bytes.fromhex("7ff8000000000000")


def _float_bytes(value: float) -> bytes:
    return struct.pack(">d", value) if value == value else CANONICAL_NAN


def _float(value: float) -> bytes:
    return blake3(b"float\0" + _float_bytes(value)).digest(SIZE)


def _complex(value: complex) -> bytes:
    return hash_leaf(b"complex", _float_bytes(value.real) + _float_bytes(value.imag))


def _bytes(value: bytes | bytearray) -> bytes:
    tag = b"bytes" if isinstance(value, bytes) else b"bytearray"
    if len(value) < 4096:
        return blake3(tag + b"\0" + value).digest(SIZE)
    return hash_buffers(tag, [value], nbytes=len(value))


def _decimal(value: decimal.Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    return hash_leaf(b"decimal", f"{sign} {''.join(map(str, digits))} {exponent}".encode())


def hash_type(value: type) -> bytes:
    return hash_leaf(b"type", stable_name(value).encode())


NONE = hash_leaf(b"none", b"")
TRUE = hash_leaf(b"bool", b"1")
FALSE = hash_leaf(b"bool", b"0")

LEAVES: dict[type, Leaf] = {
    type(None): lambda _: NONE,
    bool: lambda value: TRUE if value else FALSE,
    int: hash_int,
    float: _float,
    str: hash_str,
    complex: _complex,
    bytes: _bytes,
    bytearray: _bytes,
    type(...): lambda _: hash_leaf(b"ellipsis", b""),
    type(NotImplemented): lambda _: hash_leaf(b"notimplemented", b""),
    decimal.Decimal: _decimal,
    fractions.Fraction: lambda value: hash_leaf(b"fraction", b"%x/%x" % (value.numerator, value.denominator)),
    uuid.UUID: lambda value: hash_leaf(b"uuid", value.bytes),
    range: lambda value: hash_leaf(b"range", b"%x %x %x" % (value.start, value.stop, value.step)),
    datetime.date: lambda value: hash_leaf(b"date", value.isoformat().encode()),
    datetime.timedelta: lambda value: hash_leaf(b"timedelta", b"%x" % (value // datetime.timedelta(microseconds=1))),
}
