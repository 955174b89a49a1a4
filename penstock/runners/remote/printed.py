"""What tasks print, where a cluster brings workers' streams to the driver: when has all of it come?

A worker marks its streams behind what a bundle printed, and the driver counts the marks.
"""

from __future__ import annotations

import os
import threading
from collections import Counter

DRAIN_SECONDS = 10.0
"""The end of a run waits so long for what was printed in it."""
MARK = ":penstock_printed:"
"""How a worker tells, in the stream, that all that a bundle printed came before; the run's name follows."""
STREAMS = (1, 2)
"""By number: what a task puts in the place of `sys.stdout` is its own matter."""


class Printed:
    """On a worker whose streams are files: whether anything was printed since it was made, by whatever way."""

    def __init__(self) -> None:
        self._before = _sizes()

    def mark(self, run: str) -> int:
        """Mark the streams that were written to, and tell how many."""
        written = [stream for stream, size in _sizes().items() if size != self._before[stream]]
        for stream in written:
            os.write(stream, f"{MARK}{run}\n".encode())
        return len(written)


def _sizes() -> dict[int, int]:
    return {stream: os.fstat(stream).st_size for stream in STREAMS}


class Marks:
    """In the driver: the marks that are still to come, by run."""

    def __init__(self) -> None:
        self._owed: Counter[str] = Counter()
        self._came = threading.Condition()

    def expect(self, run: str, marks: int) -> None:
        """So many marks are still to come, or have come already."""
        if marks:
            with self._came:
                self._owed[run] += marks

    def came(self, run: str) -> None:
        """A mark is here, and shown is what came before it."""
        with self._came:
            self._owed[run] -= 1
            self._came.notify_all()

    def drain(self, run: str) -> None:
        """Wait until everything that the run's calls printed has come, for a while."""
        with self._came:
            self._came.wait_for(lambda: self._owed[run] <= 0, DRAIN_SECONDS)
            del self._owed[run]
