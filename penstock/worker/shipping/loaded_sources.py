"""Detects whether a loaded module was created from the present source in its file.

Python does not keep a module's source. What remains are the functions in the module and the bytecode in `__pycache__`,
which importing updates. Python itself considers a file unchanged if it was rewritten within a second with the same
size, and then continues with bytecode of the older source.
"""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Container, Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, FunctionType, ModuleType
from typing import Any

from penstock.digests.code.loaded import saved_code


def loaded_from_files(names: Container[str]) -> dict[str, ModuleType]:
    """Return the modules of these packages that the standard loader loaded from source files, by real path."""
    found = {}
    for name, module in list(sys.modules.items()):
        # Other modules may be lazy, and accessing them would load them.
        if name.partition(".")[0] not in names or type(module) is not ModuleType:
            continue
        spec = vars(module).get("__spec__")
        # Other loaders, such as pytest's, may modify the code and cache it elsewhere.
        if type(spec) is ModuleSpec and type(spec.loader) is SourceFileLoader and spec.origin:
            found[os.path.realpath(spec.origin)] = module
    return found


def is_older(module: ModuleType, source: bytes) -> bool:
    """Return whether a module was loaded from another source than `source`, the present content of its file.

    Comments and empty lines do not count. If neither functions nor bytecode show a difference, returns False.
    """
    spec: Any = module.__spec__
    try:
        with warnings.catch_warnings(action="ignore"):
            now: CodeType = compile(source, spec.origin, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return True  # the loaded source could be compiled
    kept = _bytecode(spec)
    if kept is not None and _bare(kept) != _bare(now):
        return True
    present: dict[str, list[CodeType]] = {}
    for code in _inner(now):
        present.setdefault(code.co_qualname, []).append(_bare(code))
    # Names removed from the source remain in a module that was reloaded.
    return any(
        code.co_qualname in present and _bare(code) not in present[code.co_qualname]
        for code in _functions(module, spec.origin)
    )


def _bytecode(spec: ModuleSpec) -> CodeType | None:
    try:
        return saved_code(spec.cached, os.stat(spec.origin or ""))
    except OSError:
        return None


def _bare(code: CodeType) -> CodeType:
    """Return the code without its position, for comparison. NaN is replaced by its text, which compares equal."""
    held = tuple(
        _bare(each) if isinstance(each, CodeType) else each if each == each else repr(each) for each in code.co_consts
    )
    flags = code.co_flags & ~inspect.CO_ITERABLE_COROUTINE  # `types.coroutine` adds this flag
    return code.replace(co_flags=flags, co_filename="", co_firstlineno=1, co_linetable=b"", co_consts=held)


def _inner(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _inner(each)


def _functions(module: ModuleType, file: str) -> Iterator[CodeType]:
    """Yield the code of a module's functions and methods that come from this file."""
    for value in list(vars(module).values()):
        members = [value]
        if issubclass(type(value), type):  # without running code of users' objects
            held = type.__getattribute__(value, "__dict__")
            members = list(held.values()) if held.get("__module__") == module.__name__ else []
        for member in members:
            for attribute in ("__wrapped__", "__func__", "fn"):
                inner = inspect.getattr_static(member, attribute, None)
                member = member if inner is None else inner
            if type(member) is FunctionType and member.__code__.co_filename == file:
                yield member.__code__
