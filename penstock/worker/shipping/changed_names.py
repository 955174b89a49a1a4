"""Which variables of modules the code that a task reaches may change, and which of them only the program has set.

A variable that a task itself fills, such as a cache or a lazy connection, may differ between processes. One that
begins empty and that only the driver's program has filled must be the same on workers.
"""

from __future__ import annotations

import dis
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from cloudpickle.cloudpickle import _extract_code_globals

from penstock.digests.names import is_project_module
from penstock.digests.python import digest
from penstock.errors import DigestError
from penstock.imported import loaded
from penstock.objects.code_pickles import CACHED
from penstock.objects.hidden import uncovered
from penstock.objects.texts import module_of
from penstock.worker.shipping.code_contents import changes_objects
from penstock.worker.shipping.code_places import OF_IMPORT

_STORING = frozenset(dis.opmap[name] for name in ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR"))
_IMPORTING = frozenset({dis.opmap["IMPORT_NAME"]})
_CODE = (FunctionType, BuiltinFunctionType, MethodType, ModuleType, type)
_MOST_FUNCTIONS = 10_000


@dataclass(frozen=True, slots=True)
class Variables:
    """The global variables with a digest that a function reads: neither functions, classes nor modules."""

    constants: dict[str, Any]
    """Those that no code changes that the function reaches."""
    changed: dict[str, Any]
    """The others."""
    imports: bool
    """Whether the function, or one that it reaches, imports modules of the project, which may fill registries."""


def variables_read_by(fn: FunctionType) -> Variables:
    """Return the global variables that a function reads."""
    read = {name: fn.__globals__[name] for name in _extract_code_globals(fn.__code__) if name in fn.__globals__}
    held = {name: value for name, value in read.items() if not (name in OF_IMPORT or _is_code(value))}
    values = {name: value for name, value in held.items() if _has_digest(value)}
    changed, imports = _changed_from(fn) if values else (set(), False)
    return Variables(
        {name: value for name, value in values.items() if name not in changed},
        {name: value for name, value in values.items() if name in changed},
        imports,
    )


def _is_code(value: Any) -> bool:
    return isinstance(uncovered(value), _CODE)


def _has_digest(value: Any) -> bool:
    try:
        digest(value)
    except DigestError:
        return False
    return True


def _changed_from(fn: FunctionType) -> tuple[set[str], bool]:
    """Return the names that a function, and the project's functions that it reaches, assign or change in place, and
    whether they import modules of the project."""
    changed: set[str] = set()
    imported: set[str] = set()
    seen, stack = {id(fn)}, [fn]
    while stack:
        function = stack.pop()
        for code in _codes(function.__code__):
            changed |= _named_by(code, _STORING)
            imported |= _named_by(code, _IMPORTING)
            if changes_objects(code):
                changed.update(code.co_names)
        for value in _used(function):
            for found in _functions_in(value):
                if id(found) not in seen and len(seen) < _MOST_FUNCTIONS and is_project_module(_home(found)):
                    seen.add(id(found))
                    stack.append(found)
    return changed, any(is_project_module(name) for name in imported)


def _home(fn: FunctionType) -> str:
    return str(fn.__globals__.get("__name__"))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)


@functools.lru_cache(maxsize=4096)
def _named_by(code: CodeType, operations: frozenset[int]) -> frozenset[str]:
    if operations.isdisjoint(code.co_code[::2]):  # decoding the operations is slow
        return frozenset()
    return frozenset(str(each.argval) for each in dis.get_instructions(code) if each.opcode in operations)


def _used(fn: FunctionType) -> Iterator[Any]:
    """Yield what a function may call: by global name, as attribute of a module, and all of what it imports."""
    for cell in fn.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for code in _codes(fn.__code__):
        for name in code.co_names:
            value = fn.__globals__.get(name)
            yield value
            if type(value) is ModuleType:
                yield from (vars(value).get(attribute) for attribute in code.co_names)
        for name in _named_by(code, _IMPORTING):
            module = loaded(name)
            yield from list(vars(module).values()) if module is not None and is_project_module(name) else ()


def _functions_in(value: Any) -> Iterator[FunctionType]:
    value = _function_of(uncovered(value))
    if isinstance(value, MethodType):
        yield from (*_functions_in(value.__self__), *_functions_in(value.__func__))
    elif isinstance(value, FunctionType):
        yield value
        yield from _functions_in(vars(value).get("__wrapped__"))
    else:
        kind = value if isinstance(value, type) else type(value)
        for base in kind.__mro__ if is_project_module(module_of(kind)) else ():
            members = [uncovered(_function_of(each)) for each in list(vars(base).values())]
            yield from (each for each in members if isinstance(each, FunctionType))


def _function_of(value: Any) -> Any:
    while isinstance(value, functools.partial | staticmethod | classmethod | property | CACHED):
        if isinstance(value, functools.partial):
            value = value.func
        elif isinstance(value, property):
            value = value.fget
        else:
            value = value.__wrapped__
    return value
