"""The life of a session: the heartbeat that keeps it, and the bell that interrupts its waiting.

Both are used by every lock manager, so that a lease means the same with each of them.
"""

from __future__ import annotations

import math
import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from penstock.clocks import Clock
from penstock.errors import ConfigurationError, InfrastructureError, LockError
from penstock.locks.base import LOST_AFTER, RENEWALS_PER_LEASE, Lease

_RETRIES_PER_LEASE = 10
_LONGEST_LEASE = 1e9
"""Seconds; more than thirty years are none."""


class Heartbeat:
    """Renews a session from a daemon thread, and knows when the session is lost.

    `beat` makes one renewal: True if it was accepted, False if the session is no longer known (lost at once), an
    `InfrastructureError` if nothing is known (tried again a tenth of a lease later). `on_lost` is called once, from the
    heartbeat's thread, which ends then.

    A renewal counts from the moment it was *sent*: whoever watches the session can have seen it no earlier, so the
    session knows of its loss 0.2 leases before anyone else may act on it. Once lost is lost, even if a late renewal
    should still be accepted.
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
        self._thread = threading.Thread(target=self._run, name="penstock-heartbeat", daemon=True)
        self._sent = -math.inf
        self._lost = False

    def start(self) -> None:
        """Send the first beat from the calling thread, then start the others. Raises what `beat` raises."""
        sent = self._clock.monotonic()
        self._beat()
        self._sent = sent
        self._thread.start()

    def stop(self) -> None:
        """No beat is sent after this returns; `lost` stays as it is. Safe to call twice, and from `on_lost`."""
        if self.forked:
            return
        with self._mutex:
            self._lost = self._lost or self._has_run_out()
            self._stop.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def sent(self) -> float:
        """When the last good beat was sent, on the clock's `monotonic`."""
        return self._sent

    @property
    def lost(self) -> bool:
        """True once the session's locks may belong to others; always true in a forked child."""
        # The pid comes first: in a forked child another thread of the parent may hold the mutex for ever.
        if self.forked:
            return True
        with self._mutex:
            self._lost = self._lost or self._has_run_out()
            return self._lost

    @property
    def forked(self) -> bool:
        """True in a forked child of the session's process: it has no heartbeat, and no part in the session."""
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
            # Also when a beat failed in a way nobody foresaw: without beats the session is lost, and is told so.
            if not self._stop.is_set():
                self._lost = True
                if self._on_lost is not None:
                    self._on_lost()

    def _beat_until_lost(self) -> None:
        pause = self._regular_pause()
        while not self._clock.wait(self._stop, max(0.0, min(pause, self._limit - self._clock.monotonic()))):
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
            # A beat that took too long must not bring a session back that was lost while it was on its way.
            self._lost = self._lost or not accepted or self._has_run_out()
            if not self._lost:
                self._sent = sent
        return True

    def _regular_pause(self) -> float:
        # Spread by a tenth, so that drivers started together do not beat together.
        return self._lease_seconds / RENEWALS_PER_LEASE * random.uniform(0.9, 1.1)


class Bell:
    """Interrupts waiting: `ring` ends every wait that runs now, or else the next one."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._listeners: set[threading.Event] = set()
        self._rung = False

    def ring(self) -> None:
        with self._mutex:
            # Kept when nobody listens: whoever is just about to wait must not miss it.
            self._rung = not self._listeners
            for event in self._listeners:
                event.set()

    @contextmanager
    def listening(self) -> Iterator[threading.Event]:
        """An event of this wait alone, set by `ring`."""
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
    """The first choice that was made, in seconds; raises `ConfigurationError` if it is no length of time."""
    seconds: Any = next((choice for choice in choices if choice is not None), None)
    # What others wrote may be of any type, and any number.
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < _LONGEST_LEASE:
        raise ConfigurationError(
            f"a lease of {seconds} seconds makes no sense",
            because="a lease is a positive number of seconds",
            hint="leave it at the default of 30, or set PENSTOCK_LEASE_SECONDS",
        )
    return float(seconds)


def described(info: dict[str, str] | None, host: str) -> dict[str, str]:
    """What a session tells of itself: what the caller says, and where it runs."""
    return {"host": host, "pid": str(os.getpid()), **(info or {})}


def own_leases(leases: Iterable[Lease], session_id: str) -> list[Lease]:
    """The leases as a list; raises `LockError` if one was taken by another session, for it is not ours to release."""
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
