"""Calling what a future's value offers: futures among the arguments are values too, and the value must not change."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from penstock.digests.python import digest_bytes
from penstock.errors import DigestError
from penstock.graph.arguments import SMALL, replace_futures, stands_for_nodes

_UNCHANGING = SMALL | {str, bytes, frozenset}


def call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], changed: Callable[[], Exception]) -> Any:
    """What the function gives. Raises `changed()` if it is a method that changed what it belongs to.

    A change would be seen by the flow alone, or by nobody: tasks get the result as it was returned. Which methods
    change something cannot be known, so the value is compared with what it was.
    """
    owner = getattr(function, "__self__", None)
    before = _state(owner)
    result = function(*values_in(args), **values_in(kwargs))
    if before is not None and _state(owner) != before:
        raise changed()
    return result


def values_in(arguments: Any) -> Any:
    """Arguments of a call with the values of the futures in them. What has none in it stays the object it is."""
    if isinstance(arguments, dict):
        return {name: _value(each) for name, each in arguments.items()}
    return tuple(_value(each) for each in arguments)


def _value(argument: Any) -> Any:
    if not stands_for_nodes(argument):
        return argument
    return replace_futures(argument, lambda future: future.result())


def _state(owner: Any) -> bytes | None:
    """What a change of the value would change; None if it cannot change, or nothing tells."""
    if type(owner) in _UNCHANGING or isinstance(owner, type | ModuleType):
        return None
    try:
        return digest_bytes(owner)
    except DigestError:
        return _pickled(owner)


def _pickled(owner: Any) -> bytes | None:
    from penstock.objects.live import dumps  # for values of users' classes

    try:
        return dumps(owner)
    except Exception:  # noqa: BLE001 (a __reduce__ may raise anything; such a value never left this process)
        return None
