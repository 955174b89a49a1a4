"""Detect when all output of tasks has arrived, for clusters that forward the streams of workers to the driver.

A worker writes a mark after the output of a bundle, and the driver counts the marks.
"""

from __future__ import annotations

import os
import threading
from collections import Counter

DRAIN_SECONDS = 10.0
"""How long the end of a run waits for its output."""
MARK = ":penstock_printed:"
"""The mark after the output of a bundle. The name of the run follows."""
STREAMS = (1, 2)
"""File descriptors, because a task may replace `sys.stdout`."""


class Printed:
    """On a worker whose streams are files: detects output since this object was created."""

    def __init__(self) -> None:
        self._before = _sizes()

    def mark(self, run: str) -> int:
        """Mark the streams that were written to, and return their number."""
        written = [stream for stream, size in _sizes().items() if size != self._before[stream]]
        for stream in written:
            os.write(stream, f"{MARK}{run}\n".encode())
        return len(written)


def _sizes() -> dict[int, int]:
    return {stream: os.fstat(stream).st_size for stream in STREAMS}


class Marks:
    """In the driver: the number of outstanding marks of each run."""

    def __init__(self) -> None:
        self._owed: Counter[str] = Counter()
        self._came = threading.Condition()

    def expect(self, run: str, marks: int) -> None:
        """Add marks that will arrive or have arrived."""
        if marks:
            with self._came:
                self._owed[run] += marks

    def came(self, run: str) -> None:
        """Note a mark. The output before it has been shown."""
        with self._came:
            self._owed[run] -= 1
            self._came.notify_all()

    def drain(self, run: str) -> None:
        """Wait until all output of a run has arrived, at most `DRAIN_SECONDS`."""
        with self._came:
            self._came.wait_for(lambda: self._owed[run] <= 0, DRAIN_SECONDS)
            del self._owed[run]
