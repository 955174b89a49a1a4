"""Locks with leases: what a LockManager, a Session and a Lease promise. The one interface file of locks.

A lock makes *one execution* likely; only the store makes *one result* certain (docs/protocol.md). A driver opens
one **session** with a lock manager. The session has one heartbeat, renewed by a thread of its own every third of the
lease, whatever number of locks it holds. A lock is free when it was released, or when its session's heartbeat has
stopped for a full lease. So a killed driver's keys are free within the lease + 1 s, and a paused driver learns
on waking that it lost them.

Keys are any strings; two different strings are two different locks, whatever characters they hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from penstock.storage.stores.base import Reach

DEFAULT_LEASE_SECONDS = 30.0
RENEWALS_PER_LEASE = 3
"""A heartbeat every lease / 3."""
LOST_AFTER = 0.8
"""A session counts as lost when this share of the lease has passed since the last good renewal was *sent*."""

Outcome = Literal["published", "failed", "abandoned"]
"""What a holder says when it lets go: waiters read the store after `published` and race for the lock otherwise."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lock held: pass it to `Session.release`."""

    key: str
    session_id: str
    fencing_token: int
    """Strictly grows with every new holder of the key."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock that we wanted."""

    key: str
    session_id: str
    fencing_token: int
    info: dict[str, str] = field(default_factory=dict)
    """What the holder said of itself: run, host, pid."""
    since: float = 0.0
    """Seconds since the epoch on the holder's clock, for people to read."""

    def described(self) -> str:
        """Who it is and since when, in words."""
        return describe_holder(self.info, self.since)


def describe_holder(info: Mapping[str, str], since: float) -> str:
    """The holder of a lock in words: its run, where that is, since when it holds the lock."""
    if "limit" in info:
        return f"a slot of {info['limit']}"
    who = f"run {info['run']}" if "run" in info else "somebody"
    where = f" (pid {info['pid']} on {info['host']})" if {"pid", "host"} <= info.keys() else ""
    try:
        when = f" since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(since))}" if since else ""
    except (ValueError, OverflowError, OSError):
        when = ""  # what was read is no time
    return f"{who}{where}{when}"


@dataclass(frozen=True, slots=True)
class Wakeup:
    """A lock that may be worth another look. `outcome` is None if only time has passed or the holder died."""

    key: str
    outcome: Outcome | None


@runtime_checkable
class Session(Protocol):
    """One driver's presence with a lock manager. Safe to use from several threads."""

    @property
    def id(self) -> str: ...

    @property
    def lost(self) -> bool:
        """True once the lease ran out without a renewal (or the process forked): nothing it held is its own any
        more."""
        ...

    def try_acquire(self, keys: Sequence[str]) -> list[Lease | Holder]:
        """One try for each key, in the order given, never waiting: a Lease if it is ours now, else its Holder.

        A key this session holds already is returned as the same Lease. Raises `SessionLost`, and `LockError` when
        the manager did not answer: some of the keys may be ours then, and the next try, or `close`, finds them.
        """
        ...

    def free(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that nobody holds just now: a hint what to try. Raises `LockError`."""
        ...

    def release(self, leases: Iterable[Lease], outcome: Outcome) -> None:
        """Let go and tell waiters the outcome. A lease that was lost meanwhile is passed over silently."""
        ...

    def wait_any(self, keys: Sequence[str], timeout: float) -> list[Wakeup]:
        """Wait until a lock among `keys` may be free, at most `timeout` seconds; empty if nothing happened.

        At least once, not exactly once: every wake-up must be followed by a look at the store or a new try. A key this
        session itself holds counts as held. Raises `LockError`.
        """
        ...

    def wake(self) -> None:
        """Make a running `wait_any` return soon (the caller wants to wait for other keys).

        If none runs, the next one returns at once: whoever is about to wait does not miss it.
        """
        ...

    def close(self) -> None:
        """Release all locks (outcome `abandoned`) and stop the heartbeat. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """What a manager found when it looked at what it rests on."""

    name: str
    state: Literal["ok", "warn", "fail"]
    said: str
    hint: str = ""


@runtime_checkable
class Examinable(Protocol):
    """A lock manager that can say whether the server behind it is fit for locks."""

    def examine(self) -> Iterable[Finding]:
        """Raises `LockError` if it does not answer."""
        ...


@dataclass(frozen=True, slots=True)
class Damage:
    """Something among the objects of locks that cannot be read, or that no lock manager wrote."""

    name: str
    said: str
    mendable: bool = True
    """Whether repairing mends it."""


@runtime_checkable
class Repairable(Protocol):
    """A lock manager whose objects may be damaged, by a power cut or by whoever writes to its folder."""

    def repair(self, *, dry_run: bool = False) -> list[Damage]:
        """What is damaged, having mended it unless `dry_run`. Safe while others use the locks. Raises `LockError`."""
        ...


@runtime_checkable
class LeaseNaming(Protocol):
    """A lock manager that may have been told of a lease, or leave it to the settings of whoever uses it."""

    @property
    def lease_seconds(self) -> float | None:
        """What it was told; None if it was told nothing."""
        ...


@runtime_checkable
class LockManager(Protocol):
    """Where sessions are opened. Managers pickle to their settings, never to their locks or secrets."""

    @property
    def reach(self) -> Reach:
        """Who can share its locks."""
        ...

    def ping(self) -> None:
        """Ask whether there is an answer. Raises `LockError` if there is none."""
        ...

    def open_session(
        self,
        *,
        info: dict[str, str] | None = None,
        lease_seconds: float | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> Session:
        """A new session with its heartbeat running. `on_lost` is called once, from the heartbeat's thread; it must not
        wait for a thread that may be closing the session, since `close` waits for the heartbeat.

        `lease_seconds` is the manager's own if not given, which is `DEFAULT_LEASE_SECONDS` if that was not given
        either.
        """
        ...

    def join_session(self, session_id: str) -> Session:
        """A worker's view of a driver's session: takes and releases locks in its name, has no heartbeat, and its
        `close()` releases nothing."""
        ...

    def ls(self) -> list[Holder]:
        """Every lock held now, for people and operators."""
        ...

    def break_lock(self, key: str, fencing_token: int) -> bool:
        """Take a lock away from its holder, if that still is the one with this token. For operators."""
        ...
