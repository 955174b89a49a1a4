"""The parts that all sessions share: the heartbeat that keeps them alive, and the bell that interrupts their waits.

All lock managers use them, so that a lease means the same with each.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from penstock.clocks import JITTER, Clock
from penstock.errors import ConfigurationError, InfrastructureError, LockError
from penstock.locks.base import LOST_AFTER, RENEWALS_PER_LEASE, Lease

_RETRIES_PER_LEASE = 10
_LONGEST_LEASE = 1e9
"""The upper bound of a lease, in seconds: about thirty years."""


class Heartbeat:
    """Renews a session from a daemon thread, and detects when the session is lost.

    A renewal counts from the time it was *sent*. Other sessions cannot have seen it earlier, so the session detects its
    loss 0.2 leases before any other session may act on it. A lost session stays lost, even if a late renewal is
    accepted.

    Args:
        beat: Makes one renewal. It returns True if the renewal was accepted, and False if the session is no longer
            known, which is then lost. It raises `InfrastructureError` if neither is known; the heartbeat tries
            again a tenth of a lease later.
        lease_seconds: The lease.
        clock: The clock for the lease and the pauses.
        on_lost: Called once, from the heartbeat's thread, which then ends.
    """

    def __init__(
        self,
        beat: Callable[[], bool],
        *,
        lease_seconds: float,
        clock: Clock,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self._beat = beat
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._on_lost = on_lost
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-heartbeat", daemon=True)
        self._sent = -math.inf
        self._lost = False

    def start(self) -> None:
        """Send the first beat from the calling thread, then start the heartbeat's thread. Raises what `beat` raises."""
        sent = self._clock.monotonic()
        self._beat()
        self._sent = sent
        self._thread.start()

    def stop(self) -> None:
        """Stop the heartbeat. No beat is sent after this returns, and `lost` does not change.

        May be called twice, and from `on_lost`.
        """
        if self.forked:
            return
        with self._mutex:
            self._lost = self._lost or self._has_run_out()
            self._stop.set()
        self._woken.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def sent(self) -> float:
        """When the last accepted beat was sent, by the clock's `monotonic`."""
        return self._sent

    @property
    def lost(self) -> bool:
        """Whether other sessions may hold the session's locks. Always true in a forked child."""
        # Check the pid first: in a forked child the mutex may be held for ever by a thread of the parent.
        if self.forked:
            return True
        with self._mutex:
            self._lost = self._lost or self._has_run_out()
            return self._lost

    def lose(self) -> None:
        """Note that another call found the session unknown, as a beat may."""
        if self.forked:
            return
        with self._mutex:
            self._lost = self._lost or not self._stop.is_set()  # as `stop` promises
        self._woken.set()

    @property
    def forked(self) -> bool:
        """Whether this is a forked child of the session's process. It has no heartbeat and must not use the session."""
        return os.getpid() != self._pid

    @property
    def _limit(self) -> float:
        return self._sent + LOST_AFTER * self._lease_seconds

    def _has_run_out(self) -> bool:
        return not self._stop.is_set() and self._clock.monotonic() >= self._limit

    def _run(self) -> None:
        try:
            self._beat_until_lost()
        finally:
            # Also after an unexpected error in a beat: without beats the session is lost.
            if not self._stop.is_set():
                self._lost = True
                if self._on_lost is not None:
                    self._on_lost()

    def _beat_until_lost(self) -> None:
        pause = self._regular_pause()
        while True:
            self._clock.wait(self._woken, max(0.0, min(pause, self._limit - self._clock.monotonic())))
            if self._stop.is_set():
                return
            renewed = not self.lost and self._renew()
            if self.lost:
                break
            pause = self._regular_pause() if renewed else self._lease_seconds / _RETRIES_PER_LEASE

    def _renew(self) -> bool:
        sent = self._clock.monotonic()
        try:
            accepted = self._beat()
        except InfrastructureError:
            return False
        with self._mutex:
            # A beat that took too long must not revive a session that was lost meanwhile.
            self._lost = self._lost or not accepted or self._has_run_out()
            if not self._lost:
                self._sent = sent
        return True

    def _regular_pause(self) -> float:
        # Vary the pause by a tenth, so that drivers that started together do not beat together.
        return self._lease_seconds / RENEWALS_PER_LEASE * JITTER.uniform(0.9, 1.1)


class Bell:
    """Interrupts waits: `ring` ends all current waits, or the next one if there is none."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._listeners: set[threading.Event] = set()
        self._rung = False

    def ring(self) -> None:
        with self._mutex:
            # Without a listener the ring is kept, for a thread that is about to wait.
            self._rung = not self._listeners
            for event in self._listeners:
                event.set()

    @contextmanager
    def listening(self) -> Iterator[threading.Event]:
        """Return a context manager that yields an event for this wait alone, which `ring` sets."""
        event = threading.Event()
        with self._mutex:
            if self._rung:
                self._rung = False
                event.set()
            self._listeners.add(event)
        try:
            yield event
        finally:
            with self._mutex:
                self._listeners.discard(event)


def checked_lease(*choices: float | None) -> float:
    """Return the first choice that is not None, in seconds.

    Raises:
        ConfigurationError: It is not a positive number of seconds, or more than thirty years.
    """
    seconds: Any = next((choice for choice in choices if choice is not None), None)
    # The choice may have been read from a file, so it may be of any type.
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < _LONGEST_LEASE:
        raise ConfigurationError(
            f"a lease of {seconds} seconds makes no sense",
            because="a lease is a positive number of seconds",
            hint="leave it at the default of 30, or set PENSTOCK_LEASE_SECONDS",
        )
    return float(seconds)


def described(info: dict[str, str] | None, host: str) -> dict[str, str]:
    """Return what a session states about itself: the caller's info, its host and its pid."""
    return {"host": host, "pid": str(os.getpid()), **(info or {})}


def own_leases(leases: Iterable[Lease], session_id: str) -> list[Lease]:
    """Return the leases as a list.

    Raises:
        LockError: Another session acquired one of them, so this session must not release it.
    """
    leases = list(leases)
    for lease in leases:
        if lease.session_id != session_id:
            raise LockError(
                "a session releases only its own leases",
                where=f"key {lease.key!r}",
                session=session_id,
                lease=str(lease),
            )
    return leases
