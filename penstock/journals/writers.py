"""What a run has to say reaches its store by a thread of its own: a slow, full or read-only store never holds a run up.

What waits is bounded, and what the store does not take is lost and told, once: the results count, the log does not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from penstock.errors import PenstockError, is_a

FLUSH_EVENTS = 512
"""So many lines are written at once, without waiting for more."""
QUEUED_BYTES = 32 * 2**20
"""So many bytes wait at most; lines that come when there are more are lost."""

Job = Callable[[], None]


class JournalWriter:
    """Writes lines in batches, and does other jobs between them, in the order in which they came."""

    def __init__(self, write: Callable[[bytes], None], *, seconds: float, on_trouble: Callable[[str], None]) -> None:
        """`write(lines)` is called for lines that are `seconds` old. `on_trouble(reason)` is called the first time that
        something is lost. Both are called by the writer's thread.
        """
        self._write = write
        self._seconds = seconds
        self._on_trouble = on_trouble
        self._guard = threading.RLock()
        self._changed = threading.Condition(self._guard)
        self._lines: list[bytes] = []
        self._size = 0
        self._oldest = 0.0
        self._jobs: list[Job] = []
        self._busy = False
        self._closing = False
        self._troubled = False
        self._lost = 0
        self._thread: threading.Thread | None = None

    def add(self, line: bytes) -> None:
        """Have a line written soon. Never waits."""
        with self._guard:  # without a detour by the condition: there are many lines
            if self._size + len(line) > QUEUED_BYTES:
                self._lost += 1
                return
            if not self._lines:
                self._oldest = time.monotonic()
            self._lines.append(line)
            self._size += len(line)
            if len(self._lines) in (1, FLUSH_EVENTS):
                self._wake()

    def do(self, job: Job) -> None:
        """Have something done after what was added so far."""
        with self._changed:
            self._gather()
            self._jobs.append(job)
            self._wake()

    def _gather(self) -> None:
        """Make a job of the lines that wait."""
        if self._lines:
            lines, self._lines, self._size = b"".join(self._lines), [], 0
            self._jobs.append(lambda: self._write(lines))

    def wait(self, seconds: float | None) -> bool:
        """Wait until all jobs are done, for so long at most; whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._busy, seconds)

    def close(self, seconds: float) -> bool:
        """Have everything written, and wait for that, for so long at most; whether it was."""
        with self._changed:
            self._closing = True
            self._wake()
            thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return thread is None or not thread.is_alive()

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="penstock-journal", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _serve(self) -> None:
        while (batch := self._next()) is not None:
            for job in batch:
                self._attempt(job)
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> list[Job] | None:
        """What is to be done now; None if that is nothing for ever."""
        with self._changed:
            while True:
                left = self._oldest + self._seconds - time.monotonic() if self._lines else None
                if self._closing or len(self._lines) >= FLUSH_EVENTS or (left is not None and left <= 0):
                    self._gather()
                if self._jobs:
                    batch, self._jobs, self._busy = self._jobs, [], True
                    return batch
                if self._closing:
                    return None
                self._changed.wait(left)

    def _attempt(self, job: Job) -> None:
        try:
            job()
        except Exception as error:  # noqa: BLE001 (whatever a store raises, the run goes on; it is told below)
            self._trouble(_reason(error))
        if self._lost:
            self._trouble(f"{self._lost} events came faster than the store took them")

    def _trouble(self, reason: str) -> None:
        if not self._troubled:
            self._troubled = True
            self._on_trouble(reason)


def _reason(error: Exception) -> str:
    if is_a(error, PenstockError):
        return ": ".join(text for text in (error.what, error.because) if text)
    return f"{type(error).__name__}: {error}"
