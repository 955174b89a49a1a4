"""Compiled code: comparing code objects, and digests of them that are valid for one minor version of Python."""

from __future__ import annotations

import sys
from inspect import CO_NEWLOCALS
from types import CodeType, FunctionType

from blake3 import blake3


def same_code(a: CodeType, b: CodeType) -> bool:
    """Return whether two code objects are equal apart from their positions in the source."""
    return _bare(a) == _bare(b) and len(a.co_consts) == len(b.co_consts) and all(map(_same, a.co_consts, b.co_consts))


def byte_code_digest(code: CodeType) -> bytes:
    """Return a digest (20 bytes) of compiled code without positions. It differs between minor versions of Python."""
    parts = [f"{sys.implementation.cache_tag}".encode()]
    stack: list[object] = [code]
    while stack:
        item = stack.pop()
        if isinstance(item, CodeType):
            shape = (item.co_argcount, item.co_posonlyargcount, item.co_kwonlyargcount, item.co_flags)
            parts.append(repr((item.co_name, shape, _bare(item), item.co_exceptiontable, len(item.co_consts))).encode())
            stack.extend(item.co_consts)
        else:
            parts.append(_written(item).encode("utf-8", "surrogatepass"))
    return blake3(b"bytecode\0" + b"".join(b"%d:" % len(part) + part for part in parts)).digest(20)


def behaviour_digest(fn: FunctionType) -> str:
    """16 hexadecimal digits of what a function runs; docstrings do not count. Another Python minor has another one."""
    return byte_code_digest(_without_docstrings(fn.__code__)).hex()[:16]


def _without_docstrings(code: CodeType) -> CodeType:
    inner = [_without_docstrings(each) if isinstance(each, CodeType) else each for each in code.co_consts]
    # Until Python 3.13 a function's first constant is its docstring or None; later ones say whether there is one.
    told = sys.version_info < (3, 14) or code.co_flags & _HAS_DOCSTRING
    if inner and type(inner[0]) is str and told and not code.co_name.startswith("<") and code.co_flags & CO_NEWLOCALS:
        inner[0] = None
    return code.replace(co_consts=tuple(inner), co_flags=code.co_flags & ~_HAS_DOCSTRING)


_HAS_DOCSTRING = 0x4000000
"""`inspect.CO_HAS_DOCSTRING` of Python 3.14."""


def _bare(code: CodeType) -> tuple[object, ...]:
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars


def _same(a: object, b: object) -> bool:
    if isinstance(a, CodeType) and isinstance(b, CodeType):
        return same_code(a, b)
    # repr distinguishes 1 from True and 0.0 from -0.0, but the order of a frozenset is undefined
    return type(a) is type(b) and (a == b if isinstance(a, frozenset) else repr(a) == repr(b))


def _written(constant: object) -> str:
    if isinstance(constant, frozenset):
        return f"frozenset({sorted(map(_written, constant))})"
    if isinstance(constant, tuple):
        return f"({', '.join(map(_written, constant))})"
    return f"{type(constant).__name__} {constant!r}"
