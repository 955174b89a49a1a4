"""Whether a loaded module was made of the source that its file holds now.

Python does not keep what a module was made of. What is left of it are the functions in the module, and the bytecode in
`__pycache__`, which importing brings up to date. Python itself takes a file for unchanged that was written again within
a second and with as many bytes, and then goes on with bytecode of the older source.
"""

from __future__ import annotations

import inspect
import marshal
import os
import sys
import warnings
from collections.abc import Container, Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import MAGIC_NUMBER
from types import CodeType, FunctionType, ModuleType
from typing import Any

_HEADER = 16
"""Bytes of a .pyc before its code: magic number, flags, time and size of the source."""


def loaded_from_files(names: Container[str]) -> dict[str, ModuleType]:
    """The modules of these packages that were loaded from source files the usual way, by the real paths of those."""
    found = {}
    for name, module in list(sys.modules.items()):
        # Other modules may be lazy, and would be loaded by a look at them.
        if name.partition(".")[0] not in names or type(module) is not ModuleType:
            continue
        spec = vars(module).get("__spec__")
        # Other loaders may change the code, as that of pytest does, and keep it elsewhere.
        if type(spec) is ModuleSpec and type(spec.loader) is SourceFileLoader and spec.origin:
            found[os.path.realpath(spec.origin)] = module
    return found


def is_older(module: ModuleType, source: bytes) -> bool:
    """Whether a module that was loaded from a file was made of other source than this, which is in its file now.

    Comments and empty lines do not count. Where neither functions nor bytecode tell, it is taken for the same.
    """
    spec: Any = module.__spec__
    try:
        with warnings.catch_warnings(action="ignore"):
            now: CodeType = compile(source, spec.origin, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return True  # what is loaded could be compiled
    kept = _bytecode(spec.cached, spec.origin)
    if kept is not None and _bare(kept) != _bare(now):
        return True
    present: dict[str, list[CodeType]] = {}
    for code in _inner(now):
        present.setdefault(code.co_qualname, []).append(_bare(code))
    # A name that is gone from the source stays in a module that was reloaded.
    return any(
        code.co_qualname in present and _bare(code) not in present[code.co_qualname]
        for code in _functions(module, spec.origin)
    )


def _bytecode(path: str | None, source: str) -> CodeType | None:
    """What Python would load or has loaded instead of the source; None if there is nothing to go by."""
    try:
        with open(path or "", "rb") as file:
            data = file.read()
        stat = os.stat(source)
        magic, flags = data[:4], int.from_bytes(data[4:8], "little")
        if magic != MAGIC_NUMBER or flags:
            return None
        seen = (int.from_bytes(data[8:12], "little"), int.from_bytes(data[12:16], "little"))
        valid = seen == (int(stat.st_mtime) & 0xFFFFFFFF, stat.st_size & 0xFFFFFFFF)
        if not valid and sys.dont_write_bytecode:
            return None  # left by another process, and passed over by this one
        code = marshal.loads(data[_HEADER:])
    except (OSError, EOFError, ValueError, TypeError):
        return None
    return code if isinstance(code, CodeType) else None


def _bare(code: CodeType) -> CodeType:
    """The code without its place, to be compared; NaN equals nothing, its text does."""
    held = tuple(
        _bare(each) if isinstance(each, CodeType) else each if each == each else repr(each) for each in code.co_consts
    )
    flags = code.co_flags & ~inspect.CO_ITERABLE_COROUTINE  # `types.coroutine` adds it to a function it is given
    return code.replace(co_flags=flags, co_filename="", co_firstlineno=1, co_linetable=b"", co_consts=held)


def _inner(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _inner(each)


def _functions(module: ModuleType, file: str) -> Iterator[CodeType]:
    """The code of a module's functions, and of the methods of its classes, as far as they are from this file."""
    for value in list(vars(module).values()):
        members = [value]
        if issubclass(type(value), type):  # what users define is not asked for anything
            held = type.__getattribute__(value, "__dict__")
            members = list(held.values()) if held.get("__module__") == module.__name__ else []
        for member in members:
            for attribute in ("__wrapped__", "__func__", "fn"):
                inner = inspect.getattr_static(member, attribute, None)
                member = member if inner is None else inner
            if type(member) is FunctionType and member.__code__.co_filename == file:
                yield member.__code__
