"""What Ray shows on the driver's standard streams: what tasks print, by flow and task, and none of Ray's own alarms.

Ray brings lines of its workers' streams to the driver as they are written, some tenths of a second later. Beside them
it prints what happened to its processes, with the last twenty lines of their logs: of that the driver tells itself, in
a line, and Ray's words go to the log at the level DEBUG.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from penstock.runners.ray.internals import replace_printing
from penstock.runners.remote.printed import MARK, Marks

_INNER = re.compile(r"\[\d{4}-\d\d-\d\d [^]]*\] ?(\(\w+\) )?\w+\.cc:\d+")
"""A line of Ray's own log."""

logger = logging.getLogger("penstock.runners.ray.runner")


class Prints:
    """Shows lines of workers for the connection that it is given."""

    def __init__(self) -> None:
        self.marks = Marks()
        self.marked = False
        """Whether workers are to write marks."""
        self._before: Callable[..., Any] | None = None

    def begin(self, *, prints: bool) -> None:
        """From now on, and for the connection that is made next, which brings what tasks print if `prints`."""
        if self._before is None:
            self._before = replace_printing(self.show)
            self.marked = prints

    def end(self) -> None:
        """As it was before."""
        if self._before is not None:
            replace_printing(self._before)
            self._before, self.marked = None, False

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
                self.marks.came(run)
        stream.flush()


PRINTS = Prints()
