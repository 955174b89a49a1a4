"""What a trace does for its futures: it counts them, and calls methods and takes parts of their values.

When a method is called, futures among the arguments become values, and the value must not change.
"""

from __future__ import annotations

import operator
import os
import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

from penstock.digests.python import digest_bytes
from penstock.errors import DigestError
from penstock.graph.arguments import replace_futures, stands_for_nodes
from penstock.graph.tasks import TaskDefinition, TaskOptions
from penstock.objects.copies import immutable


def _tell_nobody(node: int) -> None:
    """Take note of nothing."""


class Living:
    """The living futures of each node, whose values may still be requested.

    Futures go at any moment and in any thread: whenever Python collects garbage, also in the middle of these methods,
    which therefore call nothing between reading a count and writing it.
    """

    def __init__(self, released: Callable[[int], None] = _tell_nobody) -> None:
        """Call `released` with each node whose last future is gone."""
        self.lock = threading.RLock()
        self.counts: dict[int, int] = {}
        self._released = released
        self._wholes: dict[int, int] = {}  # by part with living futures: its whole, which is kept as well
        _all.add(self)

    def hold(self, node: int) -> None:
        """Count one more future of a node."""
        with self.lock:
            counts = self.counts
            counts[node] = counts[node] + 1 if node in counts else 1

    def let_go(self, node: int) -> None:
        """Count one less."""
        lock = self.lock
        lock.acquire()  # `with` takes twice as long
        try:
            counts = self.counts
            while (left := counts[node] - 1) <= 0:
                del counts[node]  # only now: the driver looks meanwhile
                self._released(node)
                if node not in self._wholes:
                    return
                node = self._wholes.pop(node)
            counts[node] = left
        finally:
            lock.release()

    def held(self, node: int) -> bool:
        """Return whether a future of the node exists, so that its value may still be requested."""
        return node in self.counts

    def end(self) -> None:
        """Tell nobody of nodes any more: the run ends, and the graph outlives it."""
        with self.lock:
            self._released = _tell_nobody
            self.counts = self.counts.copy()  # without the room that those had that are gone

    def part_of(self, part: int, whole: int) -> None:
        """Keep the whole as long as futures of its part live. There is one."""
        with self.lock:
            if part not in self._wholes:
                self._wholes[part] = whole
                self.hold(whole)


_all: weakref.WeakSet[Living] = weakref.WeakSet()


def _renew_locks() -> None:
    for living in _all:
        living.lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_locks)  # another thread may have held one


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
