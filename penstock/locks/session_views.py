"""What is the same of every session, and of every other process's view of one, whatever keeps the locks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from penstock.clocks import Clock
from penstock.errors import LockError, SessionLost
from penstock.locks.base import Holder, Lease, Wakeup
from penstock.locks.sessions import Bell, own_leases


class SessionView(ABC):
    """A session, or a view of one: its name, its end, and what it may still be asked for."""

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
        """Whether others may have its locks."""

    def try_acquire(self, keys: Sequence[str]) -> list[Lease | Holder]:
        if self._closed:
            raise LockError("the session is closed", where=f"session {self._id}")
        self._refuse_if_lost()
        answers = self._acquired(keys)
        # Time has passed: what was taken is not ours if the lease ran out meanwhile.
        self._refuse_if_lost()
        return answers

    @abstractmethod
    def _acquired(self, keys: Sequence[str]) -> list[Lease | Holder]:
        """One try for each of the keys, by a session that is open and was not lost just now."""

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
            "the session's lease ran out",
            where=f"session {self._id}",
            hint="its locks may belong to others now; open a new session and look at the store again",
        )

    def __reduce__(self) -> NoReturn:
        raise LockError("a session cannot be pickled", hint="send its id, and join_session() there")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id}>"


class PollingView(SessionView):
    """One of a session whose locks tell nobody when they are free: who waits looks again and again."""

    def __init__(self, session_id: str, clock: Clock, poll_seconds: tuple[float, float]) -> None:
        """`poll_seconds` is the pause between two looks: the first, doubling up to the last."""
        super().__init__(session_id, clock)
        self._poll_seconds = poll_seconds

    def _poll(self, look: Callable[[], tuple[list[Wakeup], float]], timeout: float) -> list[Wakeup]:
        """What `look()` finds worth another try; it says as well how soon a holder may turn out to be dead."""
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
    """The tokens of the session's leases by key: of an old and a new lease of one key, the new one counts.

    Raises as `own_leases`.
    """
    in_order = sorted(own_leases(leases, session_id), key=lambda lease: lease.fencing_token)
    return {lease.key: lease.fencing_token for lease in in_order}
