"""The base of sessions, and of other processes' views of sessions, for all lock managers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from penstock.clocks import Clock
from penstock.errors import LockError, SessionLost
from penstock.locks.base import Holder, Lease, Wakeup
from penstock.locks.sessions import Bell, Heartbeat, own_leases


class SessionView(ABC):
    """A session, or another process's view of one."""

    _why_lost = "the session's lease ran out"

    def __init__(self, session_id: str, clock: Clock) -> None:
        self._id = session_id
        self._clock = clock
        self._bell = Bell()
        self._closed = False

    @property
    def id(self) -> str:
        return self._id

    @property
    @abstractmethod
    def lost(self) -> bool:
        """Whether other sessions may hold its locks."""

    def try_acquire(self, keys: Sequence[str]) -> list[Lease | Holder]:
        if self._closed:
            raise LockError("the session is closed", where=f"session {self._id}")
        self._refuse_if_lost()
        answers = self._acquired(keys)
        # If the lease ran out meanwhile, other sessions may hold the locks that were acquired.
        self._refuse_if_lost()
        return answers

    @abstractmethod
    def _acquired(self, keys: Sequence[str]) -> list[Lease | Holder]:
        """Try once to acquire each key. Called for an open session that was not lost just before.

        Returns:
            For each key, in order, a `Lease` or the `Holder`.
        """

    def wake(self) -> None:
        self._bell.ring()

    def close(self) -> None:
        self._closed = True
        self._bell.ring()

    def _refuse_if_lost(self) -> None:
        if self.lost:
            raise self._loss()

    def _loss(self) -> SessionLost:
        return SessionLost(
            self._why_lost,
            where=f"session {self._id}",
            hint="other sessions may hold its locks now; open a new session and read the store again",
        )

    def __reduce__(self) -> NoReturn:
        raise LockError("a session cannot be pickled", hint="send its id, and call join_session() in the other process")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id}>"


class KeptAlive(SessionView):
    """A session in the process that opened it, which its heartbeat renews."""

    _heartbeat: Heartbeat

    @property
    def lost(self) -> bool:
        return self._heartbeat.lost

    def _loss(self) -> SessionLost:
        self._heartbeat.lose()  # whatever call found it unknown
        return super()._loss()


class PollingView(SessionView):
    """A session, or a view of one, whose locks do not notify waiters, so that a wait has to poll."""

    def __init__(self, session_id: str, clock: Clock, poll_seconds: tuple[float, float]) -> None:
        """`poll_seconds` is the pause between two polls: the first, doubled after each poll up to the second."""
        super().__init__(session_id, clock)
        self._poll_seconds = poll_seconds

    def _poll(self, look: Callable[[], tuple[list[Wakeup], float]], timeout: float) -> list[Wakeup]:
        """Call `look` until it returns wake-ups, the timeout passes or the bell rings, and return its wake-ups.

        `look` also returns the seconds after which a holder may be found dead.
        """
        deadline = self._clock.monotonic() + timeout
        pause, longest = self._poll_seconds
        with self._bell.listening() as event:
            while True:
                wakeups, life = look()
                left = deadline - self._clock.monotonic()
                if wakeups or left <= 0 or self._clock.wait(event, min(pause, left, life)):
                    return wakeups
                pause = min(2 * pause, longest)


def latest(leases: Iterable[Lease], session_id: str) -> dict[str, int]:
    """Return the tokens of a session's leases by key. Of two leases of one key, the newer one counts.

    Raises:
        LockError: Another session acquired one of the leases.
    """
    in_order = sorted(own_leases(leases, session_id), key=lambda lease: lease.fencing_token)
    return {lease.key: lease.fencing_token for lease in in_order}
