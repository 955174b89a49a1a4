"""Compiled code: whether two code objects do the same, and a digest of one that is good for this Python minor only."""

from __future__ import annotations

import sys
from types import CodeType

from blake3 import blake3


def same_code(a: CodeType, b: CodeType) -> bool:
    """Whether two code objects do the same; where they were written does not matter."""
    return _bare(a) == _bare(b) and len(a.co_consts) == len(b.co_consts) and all(map(_same, a.co_consts, b.co_consts))


def byte_code_digest(code: CodeType) -> bytes:
    """20 bytes over what the interpreter runs, without positions. Another Python minor compiles to something else."""
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


def _bare(code: CodeType) -> tuple[object, ...]:
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars


def _same(a: object, b: object) -> bool:
    if isinstance(a, CodeType) and isinstance(b, CodeType):
        return same_code(a, b)
    # repr tells 1 from True and 0.0 from -0.0, but a frozenset has no order
    return type(a) is type(b) and (a == b if isinstance(a, frozenset) else repr(a) == repr(b))


def _written(constant: object) -> str:
    if isinstance(constant, frozenset):
        return f"frozenset({sorted(map(_written, constant))})"
    if isinstance(constant, tuple):
        return f"({', '.join(map(_written, constant))})"
    return f"{type(constant).__name__} {constant!r}"
