"""The tasks of an engine in Dask: bundles, the values that they left, and arguments and functions as bytes.

Only bytes and the names of functions in the standard library reach the scheduler, which needs neither Penstock nor the
code of the user. Only the engine's thread calls these methods, unless they say otherwise.
"""

from __future__ import annotations

import itertools
import operator
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.runners.dask.capacity import ANYWHERE, Placement
from penstock.runners.dask.internals import DataNode, Task, TaskRef, as_graph
from penstock.runners.remote.handles import Argument
from penstock.runners.remote.parcels import Blob, Parcel
from penstock.runners.remote.queueing import QueuedFlight
from penstock.runners.remote.under_way import Kept, Left, Promised

PERFORM = b"cpenstock.runners.dask.worker\nperform\n."
"""`perform` as a pickle."""
INLINE_TASK_BYTES = 8 * 1024
"""The largest task that is sent with each bundle. A larger one is a Dask value, which each worker fetches once."""
PART_BYTES = 4 * 2**20
"""Larger arguments are sent in parts, because Dask warns of graphs above 10 MB."""

Key = tuple[str, int] | tuple[str, int, int]


@dataclass(slots=True, eq=False)
class DaskFlight(QueuedFlight):
    """A bundle under way in Dask."""

    placement: Placement = ANYWHERE
    finished_at: float | None = None
    """When its Dask task was first seen as finished. Its report may arrive later."""

    @property
    def key(self) -> tuple[str, int]:
        """The key of its Dask task, which returns the values by node."""
        key: tuple[str, int] = self.left.key
        return key


@dataclass(slots=True, eq=False)
class _Graph:
    """Dask tasks that are submitted together."""

    tasks: dict[Key, Any] = field(default_factory=dict)
    size: int = 0


class Graphs:
    """The Dask tasks of a run, by their keys. No key is used twice."""

    def __init__(
        self, client: Any, run: str, setup: bytes, tasks: Mapping[int, bytes], arguments: dict[Argument, bytes]
    ) -> None:
        """The engine adds pickled `tasks` and `arguments`. An argument is removed when it is sent."""
        self._client = client
        self._run = run
        self._setup = setup
        self._tasks = tasks
        self._arguments = arguments
        self._futures: dict[Key, Any] = {}
        self._shared: dict[str, tuple[Key, ...]] = {}
        self._parts = 0
        self._perform = Task(None, pickle.loads, PERFORM)

    # -- from any thread ----------------------------------------------------------------------------------------------

    def released(self, handles: Iterable[Any]) -> tuple[Key, ...]:
        """Note that values are not needed any more, and return the keys for `let_go`."""
        keys: list[Key] = []
        for handle in handles:
            if isinstance(handle, Argument):
                keys.append((_argument(handle), 0))
            elif isinstance(handle, Kept) and not isinstance(handle, Promised):
                left: Left = handle.ref
                keys.append(self._picked(left, handle.item))
                left.nodes.discard(handle.item)
                if not left.nodes:
                    keys.append(left.key)
        return tuple(keys)

    def is_lost(self, handle: Any) -> bool:
        """Return whether a handle refers to a value that Dask has lost and cannot compute again."""
        if not isinstance(handle, Kept) or isinstance(handle, Promised):
            return False
        left: Left = handle.ref
        return handle.item not in left.nodes or any(
            self.status(key) in ("error", "cancelled") for key in (left.key, self._picked(left, handle.item))
        )

    def knows(self, flight: DaskFlight) -> bool:
        """Return whether other tasks can depend on the Dask task of a bundle. For the engine's thread."""
        return flight.key in self._futures

    def status(self, key: Key) -> str:
        """Return the status in Dask: pending, finished, error, lost or cancelled."""
        future = self._futures.get(key)
        return future.status if future is not None else "pending"

    # -- submitting ---------------------------------------------------------------------------------------------------

    def submit(self, flights: Iterable[DaskFlight]) -> None:
        """Submit bundles, in as few messages as possible."""
        graphs: dict[Placement, _Graph] = {ANYWHERE: _Graph()}  # first: the others need what is picked there
        parts: list[Key] = []
        for flight in flights:
            graph = graphs.setdefault(flight.placement, _Graph())
            graph.tasks[flight.key] = self._task(flight, picks=graphs[ANYWHERE].tasks, parts=parts)
            graph.size += len(flight.data)
            if graph.size > PART_BYTES:
                self._send(graphs)
        self._send(graphs)
        self.let_go(parts)  # the scheduler keeps them while tasks need them

    def future(self, handle: Kept) -> Any:
        """Return the Dask future of a value, or of the dict that contains it. Raises `KeyError` if there is none."""
        picks: dict[Key, Any] = {}
        key = self._value_key(handle, picks)
        self._send({ANYWHERE: _Graph(picks)})
        return self._futures[key]

    def exception(self, flight: DaskFlight) -> BaseException | None:
        """Return the exception of the Dask task of a bundle."""
        error: BaseException | None = self._futures[flight.key].exception()
        return error

    def let_go(self, keys: Iterable[Key]) -> None:
        """Release Dask tasks."""
        for key in itertools.chain.from_iterable(self._shared.pop(each[0], (each,)) for each in keys):
            future = self._futures.pop(key, None)
            if future is not None:
                future.release()

    def close(self) -> None:
        """Release all Dask tasks."""
        self.let_go(list(self._futures))

    def _task(self, flight: DaskFlight, *, picks: dict[Key, Any], parts: list[Key]) -> Any:
        """Return the Dask task of a bundle. Adds tasks that it needs to `picks` and `parts`."""
        brought = [self._value_key(handle, picks) for handle in flight.sources]

        def brought_along(keys: Iterable[Key]) -> tuple[int, ...]:
            first = len(brought)
            brought.extend(keys)
            return tuple(range(first, len(brought)))

        def blob(data: bytes, name: str = "") -> Blob:
            if len(data) <= (INLINE_TASK_BYTES if name else PART_BYTES):
                return data
            keys = self._shared.get(name)
            if keys is None:
                keys = self._ship(data)
                if name:
                    self._shared[name] = keys
                else:
                    parts.extend(keys)
            return brought_along(keys)

        def argument(handle: Argument) -> Blob:
            name = _argument(handle)
            if name not in self._shared:
                self._shared[name] = self._ship(self._arguments.pop(handle))
            return brought_along(self._shared[name])

        parcel = Parcel(
            run=self._run,
            setup=blob(self._setup, "setup"),
            tasks={n: blob(self._tasks[n], str(n)) for n in {call.task for call in flight.bundle.calls}},
            bundle=blob(flight.data),
            arguments={handle.number: argument(handle) for handle in flight.arguments},
            extras=(flight.key, self._client.id, flight.timed),
        )
        return Task(
            flight.key,
            operator.call,
            self._perform,
            parcel.packed(),
            *map(TaskRef, brought),
            # A task without inputs waits at the scheduler for a free worker, not at a worker that may be busy.
            _data_producer=not flight.sources,
        )

    def _value_key(self, handle: Kept, picks: dict[Key, Any]) -> Key:
        """Return the key of the task for a value: that of its bundle, or one that picks it from several values."""
        left: Left = handle.ref
        if left.alone or isinstance(handle, Promised):
            alone: Key = left.key
            return alone
        picked = self._picked(left, handle.item)
        if picked not in self._futures:
            picks[picked] = Task(picked, dict.get, TaskRef(left.key), handle.item)
        return picked

    def _picked(self, left: Left, node: int) -> Key:
        return (f"value-{self._run}", left.key[1], node)

    def _ship(self, data: bytes) -> tuple[Key, ...]:
        """Send bytes as Dask values, in parts."""
        keys: list[Key] = []
        for start in range(0, len(data), PART_BYTES):
            self._parts += 1
            # Three items, like the keys of values. The key of a bundle has two, and begins with the name of its task.
            key: Key = (f"data-{self._run}", self._parts, 0)
            self._send({ANYWHERE: _Graph({key: DataNode(key, data[start : start + PART_BYTES])})})
            keys.append(key)
        return tuple(keys)

    def _send(self, graphs: Mapping[Placement, _Graph]) -> None:
        for placement, graph in graphs.items():
            if not graph.tasks:
                continue
            keys = list(graph.tasks)
            futures = self._client.get(
                as_graph(graph.tasks),
                keys,
                sync=False,
                resources=dict(placement.resources) or None,
                workers=list(placement.workers) or None,
                fifo_timeout=0,
                retries=0,
            )
            self._futures.update(zip(keys, futures, strict=True))
            graph.tasks, graph.size = {}, 0


def _argument(handle: Argument) -> str:
    """Return the name of a large argument, for its keys."""
    return f"argument {handle.number}"
