"""The driver's locks: sessions are opened on first use, all ready keys tried in one call, and contended keys watched.

Nothing here blocks: a contended node is parked in the driver, and one thread per lock manager waits for all of its
keys. A lock manager that does not answer is asked again in the background; if it stays unreachable, the run fails, or
continues without locks if the settings allow it. Releases without an answer are sent again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.driver.effects.lock_outages import Outage
from penstock.driver.effects.presences import Presence, Presences
from penstock.errors import LockError, LocksUnreachable, PenstockError, SessionLost
from penstock.locks.base import Holder, Lease, LockManager, LockOutcome

N = TypeVar("N", bound=Hashable)
"""The holder of a lock in a driver: a node, or a node and the kind of lock."""

LOOK_AGAIN_SECONDS = 5.0
"""How often a parked key is checked without a message: messages may be lost, and holders may die."""
_SESSIONS = 3
"""How many sessions are tried in a row, since each may turn out to be lost when it is used."""

_BORROWED = "penstock borrowed"

_log = logging.getLogger("penstock.locks")


class Leases:
    """Leases of one driver, by node."""

    def __init__(
        self,
        *,
        info: Mapping[str, str],
        on_wake: Callable[[str], None],
        on_lost: Callable[[int], None],
        on_down: Callable[[str, PenstockError, bool], None] = lambda doing, error, unlocked: None,
        run_unlocked: bool = False,
        patience: float = 0.0,
        look_again: float = LOOK_AGAIN_SECONDS,
        lease_seconds: float | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Create the leases of a driver. The callbacks may be called from any thread.

        `on_wake` receives a key, `on_lost` a number of leases, and `on_down` the failed operation, the error and
        whether nodes run without locks. `lease_seconds` is for managers that do not set it. A manager that has answered
        before may be unreachable for `patience` seconds. With `run_unlocked`, nodes run without locks meanwhile, also
        if it never answered.
        """
        self._on_wake = on_wake
        self._on_lost = on_lost
        self._on_down = on_down
        self._run_unlocked = run_unlocked
        self._patience = patience
        self._clock = clock
        self._presences = Presences(
            info=info,
            lease_seconds=lease_seconds,
            look_again=look_again,
            on_wake=on_wake,
            on_lost=self._lost,
            on_gone=self._gone,
            on_error=self._tell,
        )
        self._leases: dict[Hashable, tuple[Presence | None, Lease]] = {}
        self._releasing: dict[tuple[int, LockOutcome], list[Lease]] = {}
        self._borrowed: dict[Hashable, tuple[LockManager, Lease]] = {}
        self._done: list[tuple[LockManager, Lease]] = []
        self._outages: dict[int, Outage] = {}
        self._answered: set[int] = set()
        self._useless: set[int] = set()
        self._closed = False

    def acquire(
        self, manager: LockManager, wanted: Mapping[N, str], *, required: bool = True
    ) -> dict[N, Lease | Holder | None]:
        """Try once for the key of each node, in one call. Leases are kept until `release`; holders get theirs again.

        None means that the manager does not answer at present; the key is woken when it should be tried again. A lease
        without a session means that the node runs without a lock. Raises `LockError`, but only if locks are `required`;
        otherwise a manager that cannot lock is not asked again.
        """
        self.flush()
        mine = {node: self._leases[node][1] for node in wanted if node in self._leases}
        if mine:
            return {**self.acquire(manager, _without(wanted, mine), required=required), **mine}
        if not wanted:
            return {}
        unlocked = self._run_unlocked or not required
        if not required and id(manager) in self._useless:
            return self._meanwhile(wanted, unlocked)
        outage = self._outages.get(id(manager))
        if outage is not None and outage.join(wanted.values()):
            return self._meanwhile(wanted, unlocked)
        try:
            presence, answers = self._try(manager, list(wanted.values()))
        except LocksUnreachable as error:
            return self._without(manager, wanted, error, unlocked)
        except PenstockError as error:
            if required:
                raise
            self._useless.add(id(manager))
            self._tell("lock", error, unlocked)
            return self._meanwhile(wanted, unlocked)
        self._outages.pop(id(manager), None)
        self._answered.add(id(manager))
        result: dict[N, Lease | Holder | None] = dict(zip(wanted, answers, strict=True))
        for node, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, Lease):
                self._leases[node] = (presence, answer)
            else:
                presence.watch(answer.key, self._on_wake)
        return result

    def borrow(self, manager: LockManager, held: Mapping[int, Holder]) -> dict[int, Lease | Holder | None]:
        """Let nodes run under locks that a run around this one holds, one at a time. Returns what `acquire` does."""
        wanted = {(node, _BORROWED): f"{_BORROWED} {holder.session_id} {holder.key}" for node, holder in held.items()}
        answers: dict[int, Lease | Holder | None] = {}
        for (node, _), answer in self.acquire(manager, wanted).items():
            answers[node] = answer
            if isinstance(answer, Lease):
                holder = held[node]
                answers[node] = lease = Lease(holder.key, holder.session_id, holder.fencing_token)
                self._leases[node] = (None, lease)
                self._borrowed[node] = (manager, lease)
        return answers

    def waive(self, node: Hashable, key: str) -> None:
        """Let the node run without a lock."""
        self._leases[node] = (None, Lease(key, "", 0))

    def free(self, manager: LockManager, keys: Sequence[str]) -> list[str]:
        """Return the keys that are not held at present; all of them if the manager does not answer."""
        self.flush()
        outage = self._outages.get(id(manager))
        if outage is not None and outage.asking:
            return list(keys)  # `acquire` handles it
        try:
            return self._presences.of(manager).session.free(keys)
        except LocksUnreachable:
            return list(keys)  # `acquire` gets the same error and handles it

    def watch(self, manager: LockManager, keys: Iterable[str]) -> None:
        """Wake the keys when they may be free."""
        presence = self._presences.known(manager)
        if presence is not None:
            for key in keys:
                presence.watch(key, self._on_wake)

    def lease(self, node: int) -> Lease | None:
        """Return the lease that the node holds, or None."""
        held = self._leases.get(node)
        return held[1] if held else None

    def release(self, node: Hashable, lock_outcome: LockOutcome) -> None:
        """Release the node's lock, if it holds one, with the next `flush`, and tell waiters the lock's outcome."""
        if not self._leases:
            return
        manager, lease = self._borrowed.pop(node, (None, None))
        if manager is not None and lease is not None and lock_outcome == "published":
            self._done.append((manager, lease))
        for held in (node, (node, _BORROWED)):
            presence, lease = self._leases.pop(held, (None, None))
            if presence is not None and lease is not None:
                self._releasing.setdefault((id(presence.manager), lock_outcome), []).append(lease)

    def flush(self) -> None:
        """Send all pending releases. Those without an answer are sent again until the lease expires."""
        done, self._done = self._done, []
        for borrowed_from, lease in done:
            self._give_back(borrowed_from, lease)
        releasing, self._releasing = self._releasing, {}
        for (manager, lock_outcome), leases in releasing.items():
            presence = self._presences.by_id(manager)
            mine = [lease for lease in leases if presence and lease.session_id == presence.session.id]
            if presence is None or not mine:
                continue  # the session was lost, and its leases with it
            if not self._released(presence, mine, lock_outcome):
                # Their keys must not be acquired before this is sent: `acquire` flushes first and waits for the answer.
                self._releasing[manager, lock_outcome] = mine

    def _give_back(self, manager: LockManager, lease: Lease) -> None:
        """Release a borrowed lock early: its result is published, so waiters need not wait for the outer run."""
        try:
            owner = manager.join_session(lease.session_id)
            owner.release([lease], "published")
            owner.close()
        except LockError as error:
            self._tell("release a lock of the run around this one", error)

    def _released(self, presence: Presence, leases: list[Lease], lock_outcome: LockOutcome) -> bool:
        """Try to release leases once. Return False if this must be tried again."""
        manager, keys = presence.manager, [lease.key for lease in leases]
        outage = self._outages.get(id(manager))
        if outage is not None and outage.join(keys):
            return False
        try:
            presence.session.release(leases, lock_outcome)
        except LockError as error:
            # Their results are published, or their failures known, so locks that stay for a while do no harm.
            self._tell("release locks", error)
            if isinstance(error, LocksUnreachable):
                self._ask_again(manager, keys)
                return False
        else:
            self._outages.pop(id(manager), None)
        return True

    def close(self) -> None:
        """Release everything and stop the heartbeats and watchers."""
        self._closed = True
        self.flush()
        for outage in self._outages.values():
            outage.close()
        self._presences.close()
        self._leases.clear()

    # -- sessions --------------------------------------------------------------------------------------------------

    def _try(self, manager: LockManager, keys: list[str]) -> tuple[Presence, list[Lease | Holder]]:
        for last in range(_SESSIONS - 1, -1, -1):
            presence = self._presences.of(manager)
            try:
                return presence, presence.session.try_acquire(keys)
            except SessionLost:
                self._presences.drop(presence)
                if not last:
                    raise
        raise AssertionError("unreachable")

    def _lost(self, presence: Presence | None) -> None:
        """Handle an expired session. May be called from any thread."""
        self._on_lost(sum(1 for held in list(self._leases.values()) if held[0] is presence))

    def _gone(self, presence: Presence) -> None:
        """Drop the leases of a session that others may hold now."""
        self._leases = {n: held for n, held in self._leases.items() if held[0] is not presence}

    # -- outages ---------------------------------------------------------------------------------------------------

    def _without(
        self, manager: LockManager, wanted: Mapping[N, str], error: LocksUnreachable, unlocked: bool
    ) -> dict[N, Lease | Holder | None]:
        outage = self._outages.get(id(manager))
        hopeless = id(manager) not in self._answered or (outage is not None and outage.too_long)
        if hopeless and not unlocked:
            raise error
        self._tell("lock", error, unlocked)
        if hopeless and not self._run_unlocked:
            self._useless.add(id(manager))
        else:
            self._ask_again(manager, wanted.values())
        return self._meanwhile(wanted, unlocked)

    def _meanwhile(self, wanted: Mapping[N, str], unlocked: bool) -> dict[N, Lease | Holder | None]:
        if not unlocked:
            return dict.fromkeys(wanted)
        answers: dict[N, Lease | Holder | None] = {}
        for node, key in wanted.items():
            self.waive(node, key)
            answers[node] = self._leases[node][1]
        return answers

    def _ask_again(self, manager: LockManager, keys: Iterable[str]) -> None:
        if self._closed:
            return
        outage = self._outages.get(id(manager))
        if outage is None:
            # Without locks a run can continue indefinitely.
            patience = math.inf if self._run_unlocked else self._patience
            outage = self._outages[id(manager)] = Outage(
                lambda: self._ask(manager), on_wake=self._on_wake, patience=patience, clock=self._clock
            )
        outage.ask_for(keys)

    def _ask(self, manager: LockManager) -> None:
        """Call the manager once, in the thread that retries. Raises `LockError`."""
        if self._presences.known(manager) is None:
            self._presences.try_one(manager)
        else:
            manager.ping()

    def _tell(self, doing: str, error: PenstockError, unlocked: bool | None = None) -> None:
        _log.warning("cannot %s: %s: %s (%s)", doing, error.what, error.because, error.where)
        self._on_down(doing, error, self._run_unlocked if unlocked is None else unlocked)


def _without(wanted: Mapping[N, str], held: Mapping[N, Lease]) -> Mapping[N, str]:
    return {node: key for node, key in wanted.items() if node not in held}
