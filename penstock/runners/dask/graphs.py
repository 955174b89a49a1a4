"""What an engine has in Dask: the tasks of bundles, the values they left, arguments and functions as bytes.

Only bytes and the names of functions in the standard library reach the scheduler: it needs neither the user's code nor
Penstock. All of this is done by the engine's thread, except where it says otherwise.
"""

from __future__ import annotations

import itertools
import operator
import os
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dask._task_spec import DataNode, Task, TaskRef

from penstock.objects.texts import encodable
from penstock.runners.dask.capacity import ANYWHERE, Placement
from penstock.runners.dask.worker import Argument, Blob, Kept, Parcel, Promised
from penstock.worker.messages import Bundle, ShippedTask
from penstock.worker.shipping.source_lines import pickled_task
from penstock.worker.shipping.values import pickled
from penstock.worker.shipping.wire import pack_bundle

PERFORM = b"cpenstock.runners.dask.worker\nperform\n."
"""`perform` as a pickle."""
INLINE_TASK_BYTES = 8 * 1024
"""A task up to this size travels with each bundle; a larger one is a Dask value, which each worker gets once."""
PART_BYTES = 4 * 2**20
"""Larger arguments travel in parts: Dask warns of graphs above 10 MB."""

Key = tuple[str, int] | tuple[str, int, int]


@dataclass(slots=True, eq=False)
class InFlight:
    """A bundle that the driver waits for."""

    bundle: Bundle
    key: tuple[str, int]
    """Of its Dask task."""
    data: bytes
    """The bundle, pickled."""
    arguments: tuple[int, ...] = ()
    """Numbers of its large arguments, as they were sent."""
    placement: Placement = ANYWHERE
    started: bool = False
    """Told only of bundles with a time-out."""
    waits_since: float | None = None
    """There is no worker at all since."""
    finished_at: float | None = None
    """Dask said so first; the report of what came of it may be under way."""


@dataclass(slots=True, eq=False)
class _Left:
    """What a bundle left in Dask."""

    key: tuple[str, int]
    alone: bool
    """It is one value."""
    nodes: set[int]
    """Whose values are not released yet."""


@dataclass(slots=True, eq=False)
class _Graph:
    """Dask tasks that are submitted together."""

    tasks: dict[Key, Any] = field(default_factory=dict)
    size: int = 0


class Graphs:
    """Dask tasks of one run by their keys, which are never used twice."""

    def __init__(self, client: Any, *, run: str, setup: bytes) -> None:
        self._client = client
        self.run = run
        self._setup = setup
        self._tasks: dict[int, bytes] = {}
        self._names: dict[int, str] = {}
        self._timed: set[int] = set()
        self._left: dict[int, _Left] = {}
        self._futures: dict[Key, Any] = {}
        self._shared: dict[str, tuple[Key, ...]] = {}
        self._arguments: dict[int, bytes] = {}  # pickled, until they are sent
        self._sent = itertools.count()
        self._parts = 0
        self._perform = Task(None, pickle.loads, PERFORM)

    # -- from any thread ----------------------------------------------------------------------------------------------

    def register(self, shipped_task: ShippedTask) -> None:
        """A task that bundles will name. Raises `RunnerError` if it does not pickle."""
        self._tasks[shipped_task.number] = pickled_task(shipped_task)
        self._names[shipped_task.number] = encodable(shipped_task.task.name)
        if shipped_task.task.options.timeout_seconds is not None:
            self._timed.add(shipped_task.number)

    def flight(self, bundle: Bundle) -> InFlight:
        """The bundle, ready to be submitted. Raises `RunnerError` if it does not pickle."""
        for large in {large for call in bundle.calls for large in call.large if large.handle is None}:
            data = pickled(large.shared(), "an argument")
            large.handle = Argument(next(self._sent))
            self._arguments[large.handle.number] = data
        key = (f"{self._names[bundle.calls[0].task]}-{self.run}", bundle.number)
        arguments = {large.handle.number: None for call in bundle.calls for large in call.large}
        return InFlight(bundle, key, pack_bundle(bundle), tuple(arguments))

    def leave(self, flight: InFlight, nodes: set[int]) -> None:
        """Values of these nodes stay in Dask."""
        self._left[flight.bundle.number] = _Left(flight.key, len(nodes) == 1, nodes)

    def released(self, handles: Iterable[Any]) -> tuple[Key, ...]:
        """Nobody needs these values any more: what to let go."""
        keys: list[Key] = []
        for handle in handles:
            if isinstance(handle, Argument):
                keys.append((_argument(handle.number), 0))
            left = self._left.get(handle.bundle) if isinstance(handle, Kept) else None
            if left is not None:
                keys.append(self._picked(handle))
                left.nodes.discard(handle.node)
                if not left.nodes:
                    del self._left[handle.bundle]
                    keys.append(left.key)
        return tuple(keys)

    def is_lost(self, handle: Any) -> bool:
        """Whether it is a handle of a value that Dask does not have and cannot make again."""
        if not isinstance(handle, Kept) or isinstance(handle, Promised):
            return False
        left = self._left.get(handle.bundle)
        return left is None or any(
            self.status(key) in ("error", "cancelled") for key in (left.key, self._picked(handle))
        )

    def knows(self, promised: Promised) -> bool:
        """Whether the Dask task of a promised value can be depended on. For the engine's thread."""
        return promised.key in self._futures

    def status(self, key: Key) -> str:
        """pending, finished, error, lost or cancelled, as Dask has it."""
        future = self._futures.get(key)
        return future.status if future is not None else "pending"

    # -- submitting ---------------------------------------------------------------------------------------------------

    def submit(self, flights: Iterable[InFlight]) -> None:
        """Submit bundles, in as few messages as can be."""
        graphs: dict[Placement, _Graph] = {ANYWHERE: _Graph()}  # first: the others need what is picked there
        parts: list[Key] = []
        for flight in flights:
            graph = graphs.setdefault(flight.placement, _Graph())
            graph.tasks[flight.key] = self._task(flight, picks=graphs[ANYWHERE].tasks, parts=parts)
            graph.size += len(flight.data)
            if graph.size > PART_BYTES:
                self._send(graphs)
        self._send(graphs)
        self.let_go(parts)  # the scheduler keeps them for those that need them

    def future(self, handle: Kept) -> Any:
        """Dask's future of a value, or of the dict by node that it is in. Raises `KeyError` if there is none."""
        picks: dict[Key, Any] = {}
        key = self._value_key(handle, picks)
        self._send({ANYWHERE: _Graph(picks)})
        return self._futures[key]

    def exception(self, flight: InFlight) -> BaseException | None:
        """What the Dask task of a bundle failed with."""
        error: BaseException | None = self._futures[flight.key].exception()
        return error

    def let_go(self, keys: Iterable[Key]) -> None:
        """Dask may forget these."""
        for key in itertools.chain.from_iterable(self._shared.pop(each[0], (each,)) for each in keys):
            future = self._futures.pop(key, None)
            if future is not None:
                future.release()

    def close(self) -> None:
        """Dask may forget everything."""
        self.let_go(list(self._futures))

    def _task(self, flight: InFlight, *, picks: dict[Key, Any], parts: list[Key]) -> Any:
        """The Dask task of a bundle; what it needs besides is added to `picks` and `parts`."""
        brought: dict[Key, int] = {}

        def place(key: Key) -> int:
            return brought.setdefault(key, len(brought))

        def blob(data: bytes, name: str = "") -> Blob:
            most = INLINE_TASK_BYTES if name else PART_BYTES
            if len(data) <= most:
                return data
            keys = self._shared.get(name)
            if keys is None:
                keys = self._ship(data)
                if name:
                    self._shared[name] = keys
                else:
                    parts.extend(keys)
            return tuple(place(key) for key in keys)

        def argument(number: int) -> Blob:
            name = _argument(number)
            if name not in self._shared:
                self._shared[name] = self._ship(self._arguments.pop(number))
            return tuple(place(key) for key in self._shared[name])

        values: dict[tuple[int, int], int] = {}
        for call in flight.bundle.calls:
            for source in call.inputs.values():
                if isinstance(source.handle, Kept):
                    values[source.handle.bundle, source.handle.node] = place(self._value_key(source.handle, picks))
        numbers = {call.task for call in flight.bundle.calls}
        parcel = Parcel(
            run=self.run,
            key=flight.key,
            topic=self._client.id,
            setup=blob(self._setup, "setup"),
            tasks={number: blob(self._tasks[number], str(number)) for number in numbers},
            bundle=blob(flight.data),
            arguments={n: argument(n) for n in flight.arguments},
            values=values,
            tells=not self._timed.isdisjoint(numbers),
        )
        return Task(
            flight.key,
            operator.call,
            self._perform,
            pickle.dumps(tuple(parcel)),
            *map(TaskRef, brought),
            # What has no inputs waits at the scheduler until a worker is free, not at one that may be busy for long.
            _data_producer=not values,
        )

    def _value_key(self, handle: Kept, picks: dict[Key, Any]) -> Key:
        """What to depend on to get a value: the bundle's task if it left no other, else a task that picks it out."""
        if isinstance(handle, Promised) and handle.key is not None:
            return handle.key
        picked = self._picked(handle)
        left = self._left.get(handle.bundle)
        if left is not None and left.alone:
            return left.key
        if left is not None and picked not in self._futures:
            picks[picked] = Task(picked, dict.get, TaskRef(left.key), handle.node)
        return picked

    def _picked(self, handle: Kept) -> Key:
        return (f"value-{self.run}", handle.bundle, handle.node)

    def _ship(self, data: bytes) -> tuple[Key, ...]:
        """Make bytes Dask values, in parts."""
        keys: list[Key] = []
        for start in range(0, len(data), PART_BYTES):
            self._parts += 1
            # Of three items, as those of values: a bundle's key has two, and begins with what its task is called.
            key: Key = (f"data-{self.run}", self._parts, 0)
            self._send({ANYWHERE: _Graph({key: DataNode(key, data[start : start + PART_BYTES])})})
            keys.append(key)
        return tuple(keys)

    def _send(self, graphs: Mapping[Placement, _Graph]) -> None:
        for placement, graph in graphs.items():
            if not graph.tasks:
                continue
            keys = list(graph.tasks)
            futures = self._client.get(
                _as_expression(graph.tasks),
                keys,
                sync=False,
                resources=dict(placement.resources) or None,
                workers=list(placement.workers) or None,
                fifo_timeout=0,
                retries=0,
            )
            self._futures.update(zip(keys, futures, strict=True))
            graph.tasks, graph.size = {}, 0


def _argument(number: int) -> str:
    """What the keys of a large argument go by."""
    return f"argument {number}"


def _as_expression(tasks: dict[Key, Any]) -> Any:
    """The graph as Dask takes it, without the time it takes to hash it: the keys are unique anyway."""
    try:
        from dask._expr import LLGExpr
    except ImportError:  # Dask before 2025.4
        return tasks
    return LLGExpr(tasks, _determ_token=os.urandom(16).hex())  # type: ignore[no-untyped-call]
