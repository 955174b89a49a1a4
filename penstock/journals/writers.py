"""A thread that writes a run's log, so that a slow, full or read-only store never delays the run.

The queue is bounded. What cannot be written is lost with a single warning: results matter more than the log.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from penstock.errors import PenstockError, is_a

FLUSH_EVENTS = 512
"""This many lines are written at once, without waiting for more."""
QUEUED_BYTES = 32 * 2**20
"""The most bytes in the queue; lines beyond that are lost."""

Job = Callable[[], None]


class JournalWriter:
    """Writes lines in batches and runs other jobs, in the order in which they were added."""

    def __init__(self, write: Callable[[bytes], None], *, seconds: float, on_trouble: Callable[[str], None]) -> None:
        """Create a writer. Both callbacks run in the writer's thread.

        Args:
            write: Called with a batch of lines, at most `seconds` after the first was added.
            seconds: The longest delay of a line.
            on_trouble: Called with a reason the first time that something is lost.
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
        """Queue a line. Never waits."""
        with self._guard:  # not through the condition, for speed: there are many lines
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
        """Queue a job that runs after everything added so far."""
        with self._changed:
            self._gather()
            self._jobs.append(job)
            self._wake()

    def _gather(self) -> None:
        """Turn the waiting lines into a job."""
        if self._lines:
            lines, self._lines, self._size = b"".join(self._lines), [], 0
            self._jobs.append(lambda: self._write(lines))

    def wait(self, seconds: float | None) -> bool:
        """Wait until all jobs are done, at most `seconds`. Return whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._busy, seconds)

    def close(self, seconds: float) -> bool:
        """Write everything and stop, waiting at most `seconds`. Return whether everything was written."""
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
        """Wait for the next jobs and return them, or None once the writer is closed."""
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
        except Exception as error:  # noqa: BLE001 (whatever a store raises, the run continues; reported below)
            self._trouble(_reason(error))
        if self._lost:
            self._trouble(f"{self._lost} events were lost because the store was too slow")

    def _trouble(self, reason: str) -> None:
        if not self._troubled:
            self._troubled = True
            self._on_trouble(reason)


def _reason(error: Exception) -> str:
    if is_a(error, PenstockError):
        return ": ".join(text for text in (error.what, error.because) if text)
    return f"{type(error).__name__}: {error}"
