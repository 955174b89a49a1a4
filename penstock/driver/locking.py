"""Locking: ready nodes acquire the lock of their key, or are parked until its holder releases it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from penstock import events as log
from penstock.driver.instructions import Acquire, Borrow, Out, Release, Steps, Tell, Waive
from penstock.driver.state.run_state import RunState
from penstock.errors import LockTimeout, PenstockError, TracingError
from penstock.locks.base import Holder, Lease, LockManager, LockOutcome
from penstock.locks.single_flight import FlightOf
from penstock.worker.nesting import PATIENCE_SECONDS, Nesting

_log = logging.getLogger("penstock.locks")
MAX_DEPTH = 50
"""How deeply a call without a lock may be nested in calls with the same key."""

Waited = list[tuple[int, PenstockError]]
"""Nodes that have waited too long for another holder, and the errors with which they fail."""


class Locking:
    """The locks of one run's nodes, and the nodes that wait for each."""

    def __init__(
        self,
        run: RunState,
        out: Out,
        *,
        flight_of: FlightOf,
        lock_wait_seconds: float | None = None,
        around: Nesting | None = None,
    ) -> None:
        """`around` are the calls around a nested run."""
        self._run = run
        self._out = out
        self._flight_of = flight_of
        self._lock_wait_seconds = lock_wait_seconds
        self._around = around
        self._told: set[int] = set()
        self._parked: dict[str, list[int]] = {}

    def lock(self, ids: Iterable[int]) -> Steps[tuple[list[int], Waited]]:
        """Return the nodes that need no lock or have theirs, and those that waited too long. The others are parked."""
        run, waited = self._run, Waited()
        wanted: dict[tuple[int, bool], tuple[LockManager, dict[int, str]]] = {}
        free: dict[int, None] = {}
        for node_id in ids:
            free[node_id] = None
            key = run.progress[node_id].key
            if key is None:
                continue
            flight = self._flight_of(run.graph.nodes[node_id])
            if flight.manager is not None:
                wanted.setdefault((id(flight.manager), flight.required), (flight.manager, {}))[1][node_id] = key
        for (_, required), (manager, keys) in wanted.items():
            answers = yield from self._acquired(manager, keys, required)
            for node_id, answer in answers.items():
                if isinstance(answer, Lease):
                    run.leased(node_id, True)
                elif answer is not None and self._hopeless(node_id, answer):
                    self._out.append(Waive(node_id, keys[node_id]))
                    run.leased(node_id, True)
                else:
                    del free[node_id]
                    if answer is not None and self._waited_too_long(node_id):
                        waited.append((node_id, self._timeout(node_id, answer)))
                    else:
                        self._park(node_id, keys[node_id], answer)
        if self._around is not None and not self._around.lends:
            for node_id in [node_id for node_id in free if self._waits_in_vain(node_id)]:
                del free[node_id]
                waited.append((node_id, self._in_vain(node_id)))
        return list(free), waited

    def release(self, id: int, lock_outcome: LockOutcome) -> None:
        """Release the node's lock, if it has one."""
        if self._run.progress[id].leased:
            self._run.leased(id, False)
            self._out.append(Release(id, lock_outcome))

    def woken(self, key: str) -> None:
        """Wake the nodes that wait for a key, whose holder may be done."""
        for id in self._parked.pop(key, ()):
            self._run.wake(id)

    def clear(self) -> None:
        """Forget all waiting nodes."""
        self._parked.clear()

    def unpark(self, id: int) -> None:
        """Let a node continue, if it was parked."""
        seconds = self._run.unpark(id)
        if seconds is not None:
            name = self._run.name(id)
            self._out.append(Tell(log.NodeUnparked(at=self._run.now.at, node=id, task=name, seconds=seconds)))

    def around_themselves(self, ids: Iterable[int]) -> dict[int, PenstockError]:
        """Return the nodes whose keys are being computed by calls around this run, with the errors for them."""
        around, found = self._around, dict[int, PenstockError]()
        if around is None or not around.keys:
            return found
        for id in ids:
            node, key = self._run.graph.nodes[id], self._run.progress[id].key
            times = 0 if key is None else around.keys.count((node.entry.task.identity, key))
            # Without a lock it does not wait, so recursion is allowed up to a limit.
            if times and (times >= MAX_DEPTH or self._flight_of(node).manager is not None):
                found[id] = self._around_itself(id, key)
        return found

    def _around_itself(self, id: int, key: str | None) -> TracingError:
        name = self._run.name(id)
        return TracingError(
            f"{name} would wait for itself",
            where=f"key {key}",
            because=f"{name} was called again with the same key while that key was being computed",
            hint="call it with other arguments, or use a cache policy that distinguishes the two calls",
        )

    def _acquired(
        self, manager: LockManager, keys: Mapping[int, str], required: bool
    ) -> Steps[dict[int, Lease | Holder | None]]:
        """Try once for each node's key. Keys held by a run around this one are computed under its lock, since waiting
        for that run would be a deadlock."""
        answers: dict[int, Lease | Holder | None] = dict((yield Acquire(manager, keys, required)))
        around = self._around
        if around is not None:
            held = {id: a for id, a in answers.items() if isinstance(a, Holder) and around.holds(a)}
            if held:
                answers |= yield Borrow(manager, held)
        return answers

    def _hopeless(self, id: int, holder: Holder) -> bool:
        """Return whether the node should run without a lock, because the holder may be waiting for the outer call."""
        around = self._around
        if around is None or not self._run.waited(id, PATIENCE_SECONDS):
            return False
        if around.lends and id not in self._told:
            self._told.add(id)
            _log.warning(
                "%s, called inside of a task, has waited %.0f s for a result that is computed by %s",
                self._run.name(id), PATIENCE_SECONDS, holder.described(),
            )  # fmt: skip
        return not around.lends

    def _park(self, id: int, key: str, holder: Holder | None) -> None:
        """Park a node until the holder is done or, without a holder, until the lock manager answers again."""
        run = self._run
        # The key of a borrowed lock differs from the node's.
        self._parked.setdefault(holder.key if holder is not None else key, []).append(id)
        if holder is None:
            run.park(id)
            return
        if run.park_behind(id):
            run.counts["contended"] += 1
        # A parked node is checked every few seconds, but each holder is reported once.
        if run.told_of(id, (holder.session_id, holder.fencing_token)):
            named: dict[str, Any] = {"node": id, "task": run.name(id), "key": key}
            self._out.append(Tell(log.NodeParked(at=run.now.at, holder=holder.info, since=holder.since, **named)))

    def _waited_too_long(self, id: int) -> bool:
        return self._lock_wait_seconds is not None and self._run.waited(id, self._lock_wait_seconds)

    def _timeout(self, id: int, holder: Holder) -> LockTimeout:
        return LockTimeout(
            f"{self._run.name(id)} waited {self._lock_wait_seconds:g} s for a result that another run computes",
            where=f"node {id}, key {holder.key}",
            because=f"it is held by {holder.described()}",
            hint="`penstock locks ls` lists all locks; increase lock_wait_seconds to wait longer",
        )

    def _waits_in_vain(self, id: int) -> bool:
        """Return whether the node has waited too long for a permit whose holder may need the outer call's worker."""
        return self._run.progress[id].limited and self._run.waited(id, PATIENCE_SECONDS)

    def _in_vain(self, id: int) -> LockTimeout:
        return LockTimeout(
            f"{self._run.name(id)}, called inside a task, waited {PATIENCE_SECONDS:g} s for a permit of a limit",
            where=f"node {id}, tags {', '.join(sorted(self._run.graph.nodes[id].entry.task.options.tags))}",
            because="the outer call occupies a worker, which the calls that hold the permits may need",
            hint="call the task in the flow and pass its result on, or give the outer task the same tag",
        )
