"""What a trace does for its futures: it counts them, and calls methods and takes parts of their values.

When a method is called, futures among the arguments become values, and the value must not change.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import ModuleType
from typing import Any

from penstock.digests.python import digest_bytes
from penstock.errors import DigestError
from penstock.graph.arguments import replace_futures, stands_for_nodes
from penstock.graph.tasks import TaskDefinition, TaskOptions
from penstock.objects.copies import immutable


class Living:
    """The living futures of each node, whose values may still be requested.

    Futures go at any moment and in any thread, also in a forked process and in the middle of these methods: whenever
    Python collects garbage. So there is no lock. Appending to a list and taking from it are atomic, and lists stay.
    """

    def __init__(self, released: Callable[[int], None]) -> None:
        """Call `released` with each node whose last future is gone."""
        self._released = released
        self._futures: dict[int, list[None]] = {}  # an item for each
        self._wholes: dict[int, tuple[int]] = {}  # by part with living futures: its whole, which is kept as well

    def hold(self, node: int) -> None:
        """Count one more future of a node."""
        self._futures.setdefault(node, []).append(None)

    def let_go(self, node: int) -> None:
        """Count one less."""
        while True:
            futures = self._futures[node]
            futures.pop()
            if futures:
                return
            self._released(node)
            whole = self._wholes.pop(node, None)
            if whole is None:
                return
            if futures and self._wholes.setdefault(node, whole) is whole:
                return  # another thread has just taken the part again
            (node,) = whole

    def held(self, node: int) -> bool:
        """Return whether a future of the node exists, so that its value may still be requested."""
        return bool(self._futures.get(node))

    def part_of(self, part: int, whole: int) -> None:
        """Keep the whole as long as futures of its part live. There is one."""
        if part not in self._wholes:
            self.hold(whole)
            mine = (whole,)
            if self._wholes.setdefault(part, mine) is not mine:
                self.let_go(whole)  # another thread was faster


def _attribute(value: Any, name: str) -> Any:
    return getattr(value, name)


def _item(value: Any, key: Any) -> Any:
    return operator.getitem(value, key)


def _part(fn: Callable[..., Any], name: str) -> TaskDefinition:
    return TaskDefinition(fn, TaskOptions(name=name, key_name=f"penstock:{name}"), derived=True)


PARTS = {"item": _part(_item, "item"), "attribute": _part(_attribute, "attribute")}
"""The tasks that take parts of values."""


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
