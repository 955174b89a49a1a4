"""Calling methods of a future's value: futures among the arguments become values, and the value must not change."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from penstock.digests.python import digest_bytes
from penstock.errors import DigestError
from penstock.graph.arguments import replace_futures, stands_for_nodes
from penstock.objects.copies import immutable


def call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], changed: Callable[[], Exception]) -> Any:
    """Return the function's result. Raises `changed()` if it is a method that modified its object.

    Only the flow, or nobody, would see the modification, since tasks receive the result as it was returned. Which
    methods modify their object cannot be known, so its state is compared before and after.
    """
    owner = getattr(function, "__self__", None)
    before = _state(owner)
    result = function(*values_in(args), **values_in(kwargs))
    if before is not None and _state(owner) != before:
        raise changed()
    return result


def values_in(arguments: Any) -> Any:
    """Return the arguments of a call with futures replaced by values. Arguments without futures are not copied."""
    if isinstance(arguments, dict):
        return {name: _value(each) for name, each in arguments.items()}
    return tuple(_value(each) for each in arguments)


def _value(argument: Any) -> Any:
    if not stands_for_nodes(argument):
        return argument
    return replace_futures(argument, lambda future: future.result())


def _state(owner: Any) -> bytes | None:
    """Return bytes that reflect the state of a value; None if it is immutable or its state cannot be determined."""
    # The pickle of a Dataset changes when it is read, although the Dataset does not.
    if immutable(owner) or isinstance(owner, type | ModuleType):
        return None
    try:
        return digest_bytes(owner)
    except DigestError:
        return _pickled(owner)


def _pickled(owner: Any) -> bytes | None:
    from penstock.objects.live import dumps  # only needed for values of users' classes

    try:
        return dumps(owner)
    except Exception:  # noqa: BLE001 (a __reduce__ may raise anything)
        return None
