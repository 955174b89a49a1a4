"""Show the output of tasks on the driver's standard streams, by flow and task, without Ray's own messages.

Ray forwards the lines of its workers' streams to the driver some tenths of a second later. It also prints what happened
to its processes, with the last twenty lines of their logs. The driver reports that in one line, and Ray's text goes to
the log at level DEBUG.
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
    """Shows lines of the workers of a connection."""

    def __init__(self) -> None:
        self.marks = Marks()
        self.marked = False
        """Whether workers should write marks."""
        self._before: Callable[..., Any] | None = None

    def begin(self, *, prints: bool) -> None:
        """Start to show lines, for the next connection. `prints` is whether it forwards the output of tasks."""
        if self._before is None:
            self._before = replace_printing(self.show)
            self.marked = prints

    def end(self) -> None:
        """Restore the function that showed lines before."""
        if self._before is not None:
            replace_printing(self._before)
            self._before, self.marked = None, False

    def show(self, data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
        """Show lines of a stream of a process. Called in a thread of Ray."""
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
