"""What Ray shows on the driver's standard streams: what tasks print, by flow and task, and none of Ray's own alarms.

Ray brings lines of its workers' streams to the driver as they are written, some tenths of a second later. Beside them
it prints what happened to its processes, with the last twenty lines of their logs: of that the driver tells itself, in
a line, and Ray's words go to the log at the level DEBUG.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

DRAIN_SECONDS = 10.0
"""The end of a run waits so long for what was printed in it."""
MARK = ":penstock_printed:"
"""How a worker tells, in the stream, that all that a bundle printed came before; the run's name follows."""
_INNER = re.compile(r"\[\d{4}-\d\d-\d\d [^]]*\] ?(\(\w+\) )?\w+\.cc:\d+")
"""A line of Ray's own log."""

logger = logging.getLogger("penstock.runners.ray.runner")


class Prints:
    """Shows lines of workers for the connection that it is given."""

    def __init__(self) -> None:
        self._before: Callable[..., Any] | None = None
        self.marked = False
        """Whether workers are to write marks."""
        self._owed: Counter[str] = Counter()
        self._came = threading.Condition()

    def begin(self, *, prints: bool) -> None:
        """From now on, and for the connection that is made next, which brings what tasks print if `prints`."""
        from ray._private import worker  # there is no public way

        if self._before is None:
            self._before, worker.print_to_stdstream = worker.print_to_stdstream, self.show
            self.marked = prints

    def end(self) -> None:
        """As it was before."""
        from ray._private import worker

        if self._before is not None:
            worker.print_to_stdstream, self._before = self._before, None
            self.marked = False

    def show(self, data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
        """In a thread of Ray's: show lines of one stream of one process."""
        if not str(data.get("pid")).isdigit():  # the raylet, or another process of Ray's
            logger.debug("%s: %s", data.get("pid"), "\n".join(data["lines"]))
            return
        name = data.get("actor_name") or data.get("task_name") or "ray"
        stream = sys.stderr if data["is_err"] else sys.stdout
        for line in data["lines"]:
            text, mark, run = line.partition(MARK)
            if text and not _INNER.match(text):
                stream.write(f"({name}) {text}\n")
            if mark:
                with self._came:
                    self._owed[run] -= 1
                    self._came.notify_all()
        stream.flush()

    def expect(self, run: str, marks: int) -> None:
        """So many marks are still to come, or have come already."""
        if marks:
            with self._came:
                self._owed[run] += marks

    def drain(self, run: str) -> None:
        """Wait until everything that the run's calls printed is shown, for a while."""
        with self._came:
            self._came.wait_for(lambda: self._owed[run] <= 0, DRAIN_SECONDS)
            del self._owed[run]


PRINTS = Prints()


class Printed:
    """On a worker: whether anything was printed since it was made, by whatever way."""

    def __init__(self) -> None:
        self._before = _sizes()

    def mark(self, run: str) -> int:
        """Mark the streams that were written to, and tell how many."""
        written = [stream for stream, size in _sizes().items() if size != self._before[stream]]
        for stream in written:
            os.write(stream, f"{MARK}{run}\n".encode())
        return len(written)


def name_task(label: str) -> None:
    """On a worker: what is printed from now on is this task's."""
    from ray._private.ray_constants import LOG_PREFIX_TASK_NAME

    for stream in _STREAMS:
        os.write(stream, f"{LOG_PREFIX_TASK_NAME}{label}\n".encode())


_STREAMS = (1, 2)
"""By number: what a task puts in the place of `sys.stdout` is its own matter."""


def _sizes() -> dict[int, int]:
    """Of the files that the standard streams of Ray's workers are, and Ray does not buffer."""
    return {stream: os.fstat(stream).st_size for stream in _STREAMS}
