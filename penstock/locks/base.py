"""The interface of locks with leases: `LockManager`, `Session` and `Lease`.

A lock makes *one execution* of a key likely; only the store guarantees *one result* (docs/protocol.md). A driver opens
one **session** with a lock manager. The session has one heartbeat for all its locks, which its own thread renews every
third of the lease. A lock is free after it was released, or after its session had no heartbeat for a full lease. The
keys of a killed driver are therefore free within the lease plus 1 s, and a driver that was paused for longer finds
its session lost when it continues.

Any string is a key. Two different strings are two different locks, whatever characters they contain. Implementations
are verified by `penstock.testing.locks.suite.LockManagerTests`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from penstock.storage.stores.base import Reach

DEFAULT_LEASE_SECONDS = 30.0
RENEWALS_PER_LEASE = 3
"""The number of heartbeats in each lease."""
LOST_AFTER = 0.8
"""The fraction of the lease after which a session counts as lost, from when its last accepted renewal was *sent*."""

LockOutcome = Literal["published", "failed", "abandoned"]
"""How a lock was released. After `published`, waiters read the store; otherwise they try to acquire the lock."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lock that a session holds. Pass it to `Session.release`."""

    key: str
    session_id: str
    fencing_token: int
    """Strictly greater than the token of every earlier holder of the key."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of a lock that another session tried to acquire."""

    key: str
    session_id: str
    fencing_token: int
    info: dict[str, str] = field(default_factory=dict)
    """What the holder stated when it opened its session: run, host, pid."""
    since: float = 0.0
    """When the lock was taken, in seconds since the epoch by the holder's clock. For display only."""

    def described(self) -> str:
        """Return the holder and the time as a phrase for messages."""
        return describe_holder(self.info, self.since)


def describe_holder(info: Mapping[str, str], since: float) -> str:
    """Return a phrase for messages: the holder's run, its process and host, and when it took the lock.

    Args:
        info: What the holder stated when it opened its session.
        since: When it took the lock, in seconds since the epoch; 0 if unknown.
    """
    if "limit" in info:
        return f"a permit of {info['limit']}"
    who = f"run {info['run']}" if "run" in info else "somebody"
    where = f" (pid {info['pid']} on {info['host']})" if {"pid", "host"} <= info.keys() else ""
    try:
        when = f" since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(since))}" if since else ""
    except (ValueError, OverflowError, OSError):
        when = ""  # not a valid time
    return f"{who}{where}{when}"


@dataclass(frozen=True, slots=True)
class Wakeup:
    """A lock that may be free.

    `outcome` is None if the lock was not seen to be released: its holder died, or only time has passed.
    """

    key: str
    outcome: LockOutcome | None


@runtime_checkable
class Session(Protocol):
    """A driver's session with a lock manager. Safe to use from several threads."""

    @property
    def id(self) -> str:
        """The id, for `LockManager.join_session`. No two sessions have the same."""
        ...

    @property
    def lost(self) -> bool:
        """Whether the lease ran out without a renewal, or the process was forked. A lost session holds no locks, and
        stays lost."""
        ...

    def try_acquire(self, keys: Sequence[str]) -> list[Lease | Holder]:
        """Try once to acquire each key, in the order given, without waiting.

        Returns:
            For each key a `Lease` if the session holds it now, otherwise its `Holder`. For a key that the session
            already held, the same lease as before.

        Raises:
            SessionLost: The session lost its lease.
            LockError: The session is closed, or the manager did not answer. In the latter case the session may hold
                some of the keys; the next call returns their leases, and `close` releases them.
        """
        ...

    def free(self, keys: Sequence[str]) -> list[str]:
        """Return those of the keys that no session holds now. Only a hint: another session may take them first.

        Raises:
            LockError: The manager did not answer.
        """
        ...

    def release(self, leases: Iterable[Lease], outcome: LockOutcome) -> None:
        """Release locks and notify waiters of the lock's outcome. Leases that were lost meanwhile are ignored.

        Raises:
            LockError: A lease belongs to another session, or the manager did not answer.
        """
        ...

    def wait_any(self, keys: Sequence[str], timeout: float) -> list[Wakeup]:
        """Wait until one of the keys may be free.

        A wake-up may be spurious or repeated, so the caller must then read the store or try to acquire the key. A key
        that this session holds counts as held.

        Args:
            keys: The keys to wait for.
            timeout: The longest time to wait, in seconds.

        Returns:
            The keys that may be free. Empty after the timeout, or after `wake`.

        Raises:
            LockError: The manager did not answer.
        """
        ...

    def wake(self) -> None:
        """Make a running `wait_any` return soon, so that its caller can wait for other keys.

        If no `wait_any` is running, the next one returns at once.
        """
        ...

    def close(self) -> None:
        """Release all locks with the outcome `abandoned` and stop the heartbeat. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """A result of `Examinable.examine`."""

    name: str
    state: Literal["ok", "warn", "fail"]
    said: str
    hint: str = ""


@runtime_checkable
class Examinable(Protocol):
    """A lock manager that can check whether its server is suitable for locks."""

    def examine(self) -> Iterable[Finding]:
        """Check the server.

        Returns:
            One finding for each property that was checked.

        Raises:
            LockError: The server does not answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Damage:
    """A lock object that cannot be read, or that no lock manager wrote."""

    name: str
    said: str
    mendable: bool = True
    """Whether `Repairable.repair` repairs it."""


@runtime_checkable
class Repairable(Protocol):
    """A lock manager whose objects can be damaged, for example by a power cut."""

    def repair(self, *, dry_run: bool = False) -> list[Damage]:
        """Repair damaged objects. Safe while other sessions use the locks.

        Args:
            dry_run: Whether only to find the damage.

        Returns:
            The damage that was found.

        Raises:
            LockError: The locks cannot be reached or written.
        """
        ...


@runtime_checkable
class LeaseNaming(Protocol):
    """A lock manager that states whether it was given a lease or uses that of the settings."""

    @property
    def lease_seconds(self) -> float | None:
        """The lease that the manager was given, in seconds; None if it was given none."""
        ...


@runtime_checkable
class LockManager(Protocol):
    """Opens sessions. A pickled manager contains its settings, but neither locks nor secrets."""

    @property
    def reach(self) -> Reach:
        """Which processes can share its locks."""
        ...

    def ping(self) -> None:
        """Check that the manager answers.

        Raises:
            LockError: It does not.
        """
        ...

    def open_session(
        self,
        *,
        info: dict[str, str] | None = None,
        lease_seconds: float | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> Session:
        """Open a session and start its heartbeat.

        Args:
            info: What other sessions see of this one as a holder, in addition to its host and pid.
            lease_seconds: The lease. By default that of the manager, which is by default `DEFAULT_LEASE_SECONDS`.
            on_lost: Called once, from the heartbeat's thread, when the session is lost. It must not wait for a thread
                that may be closing the session: `close` waits for the heartbeat.

        Raises:
            ConfigurationError: The lease is not a positive number of seconds.
            LockError: The manager did not answer, or is not suitable for locks.
        """
        ...

    def join_session(self, session_id: str) -> Session:
        """Return a worker's view of a driver's session, which acquires and releases locks for that session.

        The view has no heartbeat, and its `close` releases nothing.

        Args:
            session_id: The `id` of the session. If it does not exist, the view is lost.
        """
        ...

    def ls(self) -> list[Holder]:
        """Return the holders of all locks that are held now. For display.

        Raises:
            LockError: The manager did not answer.
        """
        ...

    def break_lock(self, key: str, fencing_token: int) -> bool:
        """Take a lock away from its holder. For operators.

        Args:
            key: The key.
            fencing_token: The token of the holder that is meant.

        Returns:
            True if the lock was taken away. False if that holder no longer holds it.

        Raises:
            LockError: The manager did not answer.
        """
        ...
