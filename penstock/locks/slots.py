"""Locks over any SlotStore: sessions with one heartbeat object each, keys as numbered epochs.

`epochs` explains why no two sessions hold a key at the same time, and `liveness` why a session detects its loss before
other sessions do. This module defines the order of the calls. It uses only the methods of `SlotStore`, so the same code
works in a folder and in a bucket.
"""

from __future__ import annotations

import functools
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.errors import LockError, LocksUnreachable, StoreError, StoreUnreachable
from penstock.locks.base import DEFAULT_LEASE_SECONDS, Damage, Holder, Lease, LockOutcome, Session, Wakeup
from penstock.locks.epochs import Epoch, Epochs
from penstock.locks.liveness import SessionObject, SessionRegistry
from penstock.locks.repairs import repair_objects
from penstock.locks.session_views import KeptAlive, PollingView, latest
from penstock.locks.sessions import Heartbeat, checked_lease, described
from penstock.process.identity import ProcessIdentity
from penstock.storage.stores.base import ProbedStore, Reach, SlotStore

_P = ParamSpec("_P")
_R = TypeVar("_R")


def store_failures_are_lock_errors(call: Callable[_P, _R]) -> Callable[_P, _R]:
    @functools.wraps(call)
    def translated(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return call(*args, **kwargs)
        except StoreError as error:
            kind = LocksUnreachable if isinstance(error, StoreUnreachable) else LockError
            raise kind(
                f"the store of the locks failed: {error.what}",
                where=error.where,
                because=error.because,
                hint=error.hint,
                **error.data,
            ) from error

    return translated


class SlotLockManager:
    """Locks in a `SlotStore`, shared by all processes that reach the store.

    Guarantee: at most one session that is not `lost` holds a key. The keys of a killed holder are free within its lease
    plus one poll, and at once for sessions on the same machine (Linux). There is no guarantee about the order of
    waiters, or about a process that continues without checking `lost`.

    Args:
        store: The store.
        reach: Which processes can share the locks.
        lease_seconds: The lease of sessions that are opened without one; by default `DEFAULT_LEASE_SECONDS`.
        poll_seconds: The pause between two polls of a waiter: the first, doubled after each poll up to the second.
        clock: The clock, for tests.
        concurrency: The number of parallel requests for many keys.

    Raises:
        ConfigurationError: The lease is not a positive number of seconds.
    """

    def __init__(
        self,
        store: SlotStore,
        *,
        reach: Reach,
        lease_seconds: float | None = None,
        poll_seconds: tuple[float, float],
        clock: Clock = SYSTEM_CLOCK,
        concurrency: int = 1,
    ) -> None:
        self.reach: Reach = reach
        self._store = store
        self._lease_seconds = None if lease_seconds is None else checked_lease(lease_seconds)
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._epochs = Epochs(store, clock=clock, concurrency=concurrency)
        self._registry = SessionRegistry(store, clock=clock)
        self._prepared = False

    @store_failures_are_lock_errors
    def open_session(
        self,
        *,
        info: dict[str, str] | None = None,
        lease_seconds: float | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> Session:
        seconds = checked_lease(lease_seconds, self._lease_seconds, DEFAULT_LEASE_SECONDS)
        if not self._prepared:
            self._prepare()
            self._prepared = True
        process = ProcessIdentity.current()
        start = SessionObject(uuid.uuid4().hex, 0, seconds, described(info, process.host), process)
        return OwnSession(self, start, on_lost)

    def _prepare(self) -> None:
        """Check the store before the first session, and remove the objects of dead sessions."""
        probe(self._store)
        self._registry.sweep()

    @store_failures_are_lock_errors
    def ping(self) -> None:
        self._store.get("ping")  # a name that never exists

    @store_failures_are_lock_errors
    def join_session(self, session_id: str) -> Session:
        found = self._registry.read(session_id)
        return JoinedSession(self, session_id, {} if found is None else found.info)

    @store_failures_are_lock_errors
    def ls(self) -> list[Holder]:
        held = [top for top in self._epochs.all_tops() if top.held]
        left = self._registry.seconds_left(top.session_id for top in held)
        return sorted((top.holder() for top in held if left[top.session_id] > 0), key=lambda holder: holder.key)

    @store_failures_are_lock_errors
    def break_lock(self, key: str, fencing_token: int) -> bool:
        top = self._epochs.tops([key])[key]
        if top is None or not top.held or top.number != fencing_token:
            return False
        # A released epoch above the holder's, whose own release will find that it is no longer the top.
        return self._epochs.create(replace(top, number=top.number + 1, outcome="abandoned"))

    @store_failures_are_lock_errors
    def repair(self, *, dry_run: bool = False) -> list[Damage]:
        return repair_objects(self._epochs, self._registry, self._clock, dry_run=dry_run)

    @store_failures_are_lock_errors
    def living(self) -> dict[str, float]:
        """Return the sessions that may be alive, with the seconds for which they may live without another beat."""
        return self._registry.living()

    @property
    def lease_seconds(self) -> float | None:
        """The lease that the manager was given, in seconds; None if it was given none."""
        return self._lease_seconds

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._store, self.reach, self._lease_seconds, self._poll_seconds)


def _rebuilt(
    store: SlotStore, reach: Reach, lease_seconds: float | None, polls: tuple[float, float]
) -> SlotLockManager:
    return SlotLockManager(store, reach=reach, lease_seconds=lease_seconds, poll_seconds=polls)


class _SlotSession(PollingView):
    """What a session and another process's view of it have in common."""

    def __init__(self, manager: SlotLockManager, session_id: str, info: dict[str, str]) -> None:
        super().__init__(session_id, manager._clock, manager._poll_seconds)
        self._info = info
        self._epochs = manager._epochs
        self._registry = manager._registry
        # Epochs that the session holds or may hold (a try without an answer), for `close` only. Only the store is
        # authoritative: another process may have acquired or released locks of this session.
        self._maybe_ours: dict[str, int] = {}
        # Epochs whose release got no answer. It may still arrive, so they are not used again.
        self._given_up: dict[str, int] = {}

    @store_failures_are_lock_errors
    def _acquired(self, keys: Sequence[str]) -> list[Lease | Holder]:
        answers: dict[str, Lease | Holder] = {}
        while pending := [key for key in dict.fromkeys(keys) if key not in answers]:
            answers |= self._one_round(pending)
        return [answers[key] for key in keys]

    def _one_round(self, keys: list[str]) -> dict[str, Lease | Holder]:
        """Look at each key, and try to take it if it is free. Leaves out keys that changed meanwhile."""
        tops = self._epochs.tops(keys)
        others = {top.session_id for top in tops.values() if top is not None and top.held} - {self._id}
        left = self._registry.seconds_left(others)
        for session_id in others:
            if left[session_id] <= 0:
                self._registry.remove(session_id)
        answers: dict[str, Lease | Holder] = {}
        ours: list[Epoch] = []
        tried: list[Epoch] = []
        for key, top in tops.items():
            mine = top is not None and top.held and top.session_id == self._id
            if top is not None and mine and self._given_up.get(key) != top.number:
                self._maybe_ours[key] = top.number
                ours.append(top)
            elif top is not None and top.held and not mine and left[top.session_id] > 0:
                answers[key] = top.holder()
            else:
                epoch = Epoch(key, 1 if top is None else top.number + 1, self._id, self._info, self._clock.now())
                self._maybe_ours[key] = epoch.number
                tried.append(epoch)
        for epoch, created in zip(tried, self._epochs.each(self._epochs.create, tried), strict=True):
            if created:
                ours.append(epoch)
            else:
                # Or taken by an earlier try of this session that got no answer, which the next round will find.
                self._maybe_ours.pop(epoch.key, None)
        for epoch, is_top in zip(ours, self._epochs.each(self._epochs.is_top, ours), strict=True):
            if is_top:
                answers[epoch.key] = Lease(epoch.key, self._id, epoch.number)
        return answers

    @store_failures_are_lock_errors
    def free(self, keys: Sequence[str]) -> list[str]:
        return [wakeup.key for wakeup in self._look(keys, {})[0]]

    @store_failures_are_lock_errors
    def release(self, leases: Iterable[Lease], outcome: LockOutcome) -> None:
        mine = latest(leases, self._id)
        if mine and not self.lost:
            self._let_go(mine, outcome)
            # As many as were released, so that old epochs do not accumulate and each call does little work.
            self._epochs.clear_up(len(mine))

    def _let_go(self, numbers: dict[str, int], outcome: LockOutcome) -> None:
        tops = self._epochs.tops(numbers)
        mine = [
            top
            for key, top in tops.items()
            if top is not None and top.held and (top.session_id, top.number) == (self._id, numbers[key])
        ]
        self._given_up |= {top.key: top.number for top in mine}
        self._epochs.each(self._epochs.overwrite, [replace(top, outcome=outcome) for top in mine])
        for top in mine:
            self._given_up.pop(top.key, None)
        for key, number in numbers.items():
            if self._maybe_ours.get(key) == number:
                self._maybe_ours.pop(key, None)

    @store_failures_are_lock_errors
    def wait_any(self, keys: Sequence[str], timeout: float) -> list[Wakeup]:
        seen: dict[str, Epoch] = {}
        return self._poll(lambda: self._look(keys, seen), timeout)

    def _look(self, keys: Sequence[str], seen: dict[str, Epoch]) -> tuple[list[Wakeup], float]:
        """Return wake-ups for keys that may be free, and the seconds after which a holder may be found dead."""
        tops = self._epochs.tops([key for key in keys if key not in seen]) | self._epochs.again(seen)
        left = self._registry.seconds_left(top.session_id for top in tops.values() if top is not None and top.held)
        wakeups = []
        for key, top in tops.items():
            if top is None:
                wakeups.append(Wakeup(key, None))
            elif not top.held or left[top.session_id] <= 0 or seen.setdefault(key, top).number != top.number:
                wakeups.append(Wakeup(key, top.outcome))
        return wakeups, min(left.values(), default=float("inf"))


class OwnSession(KeptAlive, _SlotSession):
    """A session with its heartbeat."""

    def __init__(self, manager: SlotLockManager, start: SessionObject, on_lost: Callable[[], None] | None) -> None:
        super().__init__(manager, start.session_id, start.info)
        self._object = start
        self._closing = threading.Lock()
        self._heartbeat = Heartbeat(
            self._beat, lease_seconds=start.lease_seconds, clock=manager._clock, on_lost=on_lost
        )
        self._heartbeat.start()

    @store_failures_are_lock_errors
    def _beat(self) -> bool:
        if self._object.counter > 0 and self._registry.read(self._id) is None:
            return False
        self._object = replace(self._object, counter=self._object.counter + 1)
        self._registry.write(self._object)
        return True

    @store_failures_are_lock_errors
    def close(self) -> None:
        if self._heartbeat.forked:
            return
        self._closed = True
        self._heartbeat.stop()
        self._bell.ring()
        with self._closing:
            try:
                if not self.lost:
                    self._let_go(dict(self._maybe_ours), "abandoned")
            finally:
                # This also frees all locks that other processes acquired for the session.
                self._registry.remove(self._id)


class JoinedSession(_SlotSession):
    """A worker's view of a driver's session. Reading `lost` reads the store."""

    @property
    @store_failures_are_lock_errors
    def lost(self) -> bool:
        return self._registry.seconds_left([self._id])[self._id] <= 0


def probe(store: SlotStore) -> None:
    """Test the call on which all guarantees rest.

    Raises:
        LockError: A taken name can be taken again, or a record was lost.
    """
    # A bucket without conditional writes reads before it writes, and would pass this test.
    refused = isinstance(store, ProbedStore) and not store.conditions().enforced
    name = f"probes/{os.urandom(12).hex()}"
    try:
        # The answer of the first call proves nothing: after a lost answer, a repetition finds the name taken.
        store.put_if_absent(name, b"first")
        taken_again = store.put_if_absent(name, b"second") or store.get(name) != b"first"
    finally:
        store.delete(name)
    if refused or taken_again:
        raise LockError(
            "the store cannot hold locks",
            because="it accepted a taken name again, or lost a record",
            hint="use Redis for the locks, or another file system or bucket",
        )
