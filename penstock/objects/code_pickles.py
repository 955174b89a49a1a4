"""Pickles of functions: of those that tasks hide, and of those that hold caches of their process.

Functions behind a Task or Flow are named; see `penstock.objects.hidden`. cloudpickle pickles the functions of scripts
and notebooks by value, and with them what they hold. The caches of `functools.lru_cache` and `functools.singledispatch`
cannot be pickled, so these functions are made again where they are unpickled, with the functions in them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import cloudpickle
from msgspec import Struct

from penstock.objects.hidden import by_name
from penstock.objects.named import found_at
from penstock.objects.struct_pickles import reduced_struct

CACHED = type(functools.lru_cache(len))
_SCRIPTS = ("__main__", "__mp_main__")  # workers have another
_MOST_BYTES = 1 << 18


class CodePickler(cloudpickle.CloudPickler):  # type: ignore[misc]  # untyped
    """A cloudpickle pickler that can pickle these functions."""

    def __init__(self, file: Any, **options: Any) -> None:
        super().__init__(file, **options)
        self._parts: dict[int, tuple[FunctionType, str]] = {}
        """The dispatching functions that were met, and the names of their parts, by the id of the part."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        named = by_name(obj) if kind is FunctionType or kind is CACHED else None
        if named is not None:
            return named
        if kind is CACHED:
            return NotImplemented if _is_imported(obj) else (_cached_again, (obj.__wrapped__, obj.cache_parameters()))
        if issubclass(kind, Struct) and (struct := reduced_struct(obj)) is not None:
            return struct
        if kind is functools.singledispatchmethod:
            state = {name: part for name, part in vars(obj).items() if name != "_method_cache"}
            return _new_method, (), state, None, None, _fill_method
        if id(obj) in self._parts:  # of a function that a decorator has wrapped in another: `wraps` copies attributes
            return getattr, self._parts[id(obj)]
        if kind is FunctionType and "dispatch" in vars(obj):
            dispatcher = _dispatcher_in(obj)
            if dispatcher is not None:
                self._parts |= {
                    id(part): (dispatcher, name) for name, part in vars(dispatcher).items() if name in _PARTS
                }
                if dispatcher is obj and not _is_imported(dispatcher):
                    return _new_dispatcher, (dispatcher.__name__,), _state_of(dispatcher), None, None, _fill_dispatcher
        return super().reducer_override(obj)


def _is_imported(function: Any) -> bool:
    """Return whether a function can be imported from where it says."""
    module = function.__module__ or ""
    return module not in _SCRIPTS and found_at(module, function.__qualname__) is function


def _cached_again(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


# Dispatching functions and what is registered with them refer to each other, so they are made first and filled then.

_WRAPPER = functools.singledispatch(len).__code__  # type: ignore[attr-defined]
_PARTS = frozenset({"dispatch", "register", "registry", "_clear_cache"})
_NAMED = ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__")


def is_dispatcher(value: Any) -> bool:
    """Return whether a value is a function of `singledispatch`."""
    return type(value) is FunctionType and value.__code__ is _WRAPPER


def _dispatcher_in(function: Any) -> FunctionType | None:
    """Return the function of `singledispatch` in a function, which may have been decorated."""
    seen = set()
    while type(function) is FunctionType and id(function) not in seen:
        if is_dispatcher(function):
            return function
        seen.add(id(function))
        function = vars(function).get("__wrapped__")
    return None


def _state_of(dispatcher: Any) -> Any:
    named = {name: getattr(dispatcher, name) for name in _NAMED}
    held = {name: item for name, item in vars(dispatcher).items() if name not in _PARTS}
    return list(dispatcher.registry.items()), named, held


def _new_dispatcher(name: str) -> Any:
    def placeholder(_: Any) -> None: ...

    placeholder.__name__ = name  # named in errors
    return functools.singledispatch(placeholder)


def _fill_dispatcher(dispatcher: Any, state: Any) -> None:
    registered, named, held = state
    for kind, implementation in registered:
        dispatcher.register(kind, implementation)
    for name, value in named.items():
        setattr(dispatcher, name, value)
    vars(dispatcher).update(held)


def _new_method() -> Any:
    return functools.singledispatchmethod(len)


def _fill_method(method: Any, state: dict[str, Any]) -> None:
    vars(method).update(state)


def small_pickle(part: Any) -> bytes | None:
    """Return the pickle of a class or function of a program. None if it has none, or one of more than 256 KiB: such a
    one contains data of the program that its code mentions."""
    file = _BoundedFile()
    try:
        CodePickler(file).dump(part)
    except Exception:  # noqa: BLE001 (workers report it if they need the part)
        return None
    return b"".join(file.chunks)


class _TooLarge(Exception):
    pass


class _BoundedFile:
    """A file with a size limit."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> int:
        chunk = bytes(data)
        self._size += len(chunk)
        if self._size > _MOST_BYTES:
            raise _TooLarge
        self.chunks.append(chunk)
        return len(chunk)
