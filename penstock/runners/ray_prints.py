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

logger = logging.getLogger("penstock.runners.ray")


class Prints:
    """Shows lines of workers for the connection that it is given."""

    def __init__(self) -> None:
        self._before: Callable[..., Any] | None = None
        self._owed: Counter[str] = Counter()
        self._came = threading.Condition()

    @property
    def marked(self) -> bool:
        """Whether workers are to write marks."""
        return self._before is not None

    def begin(self) -> None:
        """From now on, and for the connection that is made next."""
        from ray._private import worker  # there is no public way

        if self._before is None:
            self._before, worker.print_to_stdstream = worker.print_to_stdstream, self.show

    def end(self) -> None:
        """As it was before."""
        from ray._private import worker

        if self._before is not None:
            worker.print_to_stdstream, self._before = self._before, None

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
    """On a worker: whether anything was printed since it was made."""

    def __init__(self) -> None:
        self._before = _sizes()

    def mark(self, run: str) -> int:
        """Mark the streams that were written to, and tell how many."""
        marked = [
            stream
            for stream, before, now in zip((sys.stdout, sys.stderr), self._before, _sizes(), strict=True)
            if now != before
        ]
        for stream in marked:
            stream.write(f"{MARK}{run}\n")
            stream.flush()
        return len(marked)


def name_task(label: str) -> None:
    """On a worker: what is printed from now on is this task's."""
    from ray._private.ray_constants import LOG_PREFIX_TASK_NAME

    for stream in (sys.stdout, sys.stderr):
        stream.write(f"{LOG_PREFIX_TASK_NAME}{label}\n")
        stream.flush()


def _sizes() -> tuple[int, int]:
    """Of the files that the standard streams of one of Ray's workers are."""
    sys.stdout.flush()
    sys.stderr.flush()
    return os.fstat(1).st_size, os.fstat(2).st_size
