"""Detects that a constant or closure variable of a task changed after a call, so that no result is published under the
key of its earlier value.

Flows run their calls later than they make them: in `for i in range(3): @task … def f(x): return x + i`, each call would
see the last `i`. A `CodeWitness` keeps the values that the code had when its digest was made. Comparing their identity
takes well below a microsecond; only if one is another object, the code is digested again.
"""

from __future__ import annotations

import dis
import functools
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from penstock.digests.names import is_project_module
from penstock.digests.sources import behind, home_of
from penstock.errors import DigestError

_MOST_PLACES = 100
_CODE = (FunctionType, MethodType, ModuleType, functools.partial, type)
_ABSENT = object()

_Read = Callable[[], Any]


class CodeWitness:
    """The constants of a task's code, by where it reads them: closure cells, and global names if they count.

    Values that are modified in place are not noticed, nor are functions, classes and modules that are replaced. Names
    that the code itself assigns (counters) are not compared.
    """

    __slots__ = ("_digests", "_places", "_read")

    def __init__(
        self, fn: Callable[..., Any], digests: Mapping[str, str], read: Callable[[], Mapping[str, str]]
    ) -> None:
        """Create a witness of the present values.

        Args:
            fn: The task's function.
            digests: The digests of its code, by component of the key.
            read: Computes them again.
        """
        self._digests = dict(digests)
        self._read = read
        self._places = _places_of(fn, globals_count="task_code" in digests)

    def changed(self) -> bool:
        """Return whether the digests are others now. Raises `DigestError` if a new value has none."""
        for read, value in self._places:
            if read() is not value:
                break
        else:
            return False
        if self._read() != self._digests:
            return True
        self._places = [(read, read()) for read, _ in self._places]  # equal objects
        return False

    def check(self, task: str) -> None:
        """Raise `DigestError` if the code changed."""
        if self.changed():
            raise DigestError(
                f"a constant or closure variable of {task} changed after the call",
                because="the call runs later than it is made, and its result would be published under the key of the "
                "earlier value",
                hint="pass the value as an argument or a default (def f(x, i=i)), or call .result() before it changes",
            )


def _places_of(fn: Callable[..., Any], *, globals_count: bool) -> list[tuple[_Read, Any]]:
    found: dict[tuple[int, str], tuple[_Read, Any]] = {}
    assigned: set[str] = set()
    open_: list[Any] = [fn]
    seen: set[int] = set()
    while open_ and len(found) < _MOST_PLACES:
        value = _function_in(open_.pop())
        if value is None or id(value) in seen:
            continue
        seen.add(id(value))
        assigned |= _assigned_in(value.__code__)
        for place, name, read in _reads_of(value, globals_count=globals_count):
            if (item := read()) is _ABSENT:
                continue
            if issubclass(type(item), _CODE):  # `isinstance` would ask the object
                open_.append(item)
            else:
                found[place, name] = read, item
    return [each for (_, name), each in found.items() if name not in assigned]


def _function_in(value: Any) -> FunctionType | None:
    """Return the project's function behind decorators, methods and partials."""
    while True:
        value = behind(value, is_project_module)
        if isinstance(value, MethodType):
            value = value.__func__
        elif isinstance(value, functools.partial):
            value = value.func
        else:
            return value if isinstance(value, FunctionType) and is_project_module(home_of(value)) else None


def _reads_of(fn: FunctionType, *, globals_count: bool) -> Iterator[tuple[int, str, _Read]]:
    """Yield the holder (by id) and name of each variable outside of the function, and how to read it."""
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        yield id(cell), name, functools.partial(_in_cell, cell)
    if globals_count:
        scope = fn.__globals__
        for name in _names_in(fn.__code__):
            if name in scope:
                yield id(scope), name, functools.partial(scope.get, name, _ABSENT)


def _in_cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return _ABSENT


def _names_in(code: CodeType) -> set[str]:
    """Return the names that the code and the functions in it look up in modules (and as attributes)."""
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


@functools.lru_cache(maxsize=1024)
def _assigned_in(code: CodeType) -> frozenset[str]:
    """Return the outer variables that the code assigns: `global n; n += 1`."""
    stores = (each.argval for each in dis.get_instructions(code) if each.opname in ("STORE_GLOBAL", "STORE_DEREF"))
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return frozenset(stores).union(*map(_assigned_in, inner))
