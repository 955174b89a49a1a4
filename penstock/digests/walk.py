"""The Merkle walk under all digests: leaves, nodes, and the path to a value that has no digest.

A leaf hashes `tag NUL bytes`; a node hashes `tag NUL` and the digests of its parts. Tags hold no NUL and no two kinds
of value share one. What each type contributes is said in `hashing` (Python's own types) and `columns` (arrays, tables).
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

SIZE = 20
"""Bytes of a digest."""
MAX_DEPTH = 200
"""Values nested deeper than this are refused. (Pickle and JSON give up on them a little later.)"""

Resolve = Callable[[Ref], str]
Leaf = Callable[[Any], bytes]
Branch = Callable[[Any, "Walk"], bytes]

# Sharing is only remembered below this depth: broad and flat values would fill memory for nothing.
_REMEMBER_BELOW = 6
_SHOWN_STEPS = 12
_CONTAINS_ITSELF = "the value contains itself"
_TOO_DEEP = "the value is nested too deeply for the stack that is left"
_WAYS_OUT = 'exclude it from the key with `- "{name}"`, give its type a digest with register_digest(), or use NO_CACHE'


class UndigestibleError(Exception):
    """Internal: something without a digest. The steps towards it are added while the stack unwinds."""

    def __init__(self, what: str, *, because: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.because = because
        self.steps: list[str] = []

    def as_error(self, where: str, name: str) -> DigestError:
        path = where + "".join(reversed(self.steps[-_SHOWN_STEPS:]))
        return DigestError(self.what, where=path, because=self.because, hint=_WAYS_OUT.format(name=name))


class Walk:
    """One computation of a digest: where we are, and what was seen."""

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

    def of(self, value: Any) -> bytes:
        """The digest of any value inside the one being digested."""
        leaf = LEAVES.get(type(value))
        return leaf(value) if leaf is not None else self.visit(value)

    def at(self, step: str, value: Any) -> bytes:
        """Like `of`, and names the step in an error."""
        try:
            leaf = LEAVES.get(type(value))
            return leaf(value) if leaf is not None else self.visit(value)
        except UndigestibleError as problem:
            problem.steps.append(step)
            raise

    def run(self, compute: Callable[[Any], bytes], value: Any, where: str, name: str) -> bytes:
        """What `compute(value)` gives, which uses this walk; what has no digest, or lies too deep, is a DigestError."""
        try:
            return compute(value)
        except UndigestibleError as problem:
            raise problem.as_error(where, name) from problem.__cause__
        except RecursionError:
            again = len(set(self.stack)) < len(self.stack)
            raise UndigestibleError(_CONTAINS_ITSELF if again else _TOO_DEEP).as_error(where, name) from None

    def visit(self, value: Any) -> bytes:
        """The digest of a value that is no leaf."""
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
                self.memo[id(value)] = (value, result)  # holds the value, so its id stays its own
        stack.pop()
        return result


# -- building blocks -------------------------------------------------------------------------------------------------


def hash_node(tag: bytes, parts: Iterable[bytes]) -> bytes:
    """A container: the hash of its tag and its parts' digests."""
    return blake3(tag + b"\0" + b"".join(parts)).digest(SIZE)


def hash_leaf(tag: bytes, payload: bytes) -> bytes:
    """A leaf: the hash of its tag and its bytes."""
    return blake3(tag + b"\0" + payload).digest(SIZE)


def hash_buffers(tag: bytes, buffers: Iterable[Any], *, nbytes: int) -> bytes:
    """A leaf over `nbytes` bytes given as contiguous buffers, without copies; by all cores if they are many."""
    hasher = new_hash(nbytes=nbytes)
    hasher.update(tag + b"\0")
    for buffer in buffers:
        hasher.update(buffer)
    return hasher.digest(SIZE)


def attributes(value: Any) -> dict[str, Any]:
    """What an instance holds, in its `__dict__` and its slots. Cached properties are derived, and left out."""
    cls = type(value)
    found = {
        name: item
        for name, item in getattr(value, "__dict__", {}).items()
        if not isinstance(getattr(cls, name, None), functools.cached_property)
    }
    for base in cls.__mro__:
        if "__slots__" not in base.__dict__:
            continue
        # By descriptor, since the name of a private slot is not the one it is asked by.
        for name, member in base.__dict__.items():
            if type(member) is MemberDescriptorType:
                try:
                    found.setdefault(name, member.__get__(value))
                except AttributeError:  # nothing was put there
                    continue
    return found


# -- leaves ----------------------------------------------------------------------------------------------------------


def hash_int(value: int) -> bytes:
    return _SMALL_INTS.get(value) or blake3(b"int\0%x" % value).digest(SIZE)


_SMALL_INTS: dict[int, bytes] = {number: blake3(b"int\0%x" % number).digest(SIZE) for number in range(-8, 257)}


def hash_str(value: str) -> bytes:
    try:
        return blake3(b"str\0" + value.encode()).digest(SIZE)
    except UnicodeEncodeError:  # lone surrogates, as in file names that are no UTF-8
        return blake3(b"str\0" + value.encode("utf-8", "surrogatepass")).digest(SIZE)


label = functools.lru_cache(maxsize=4096)(hash_str)
"""The digest of a string that is met again and again: a field, a column, a key."""

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
