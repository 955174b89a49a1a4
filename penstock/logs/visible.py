"""Visible logs: records of flows and tasks are shown if the program has no handlers of its own."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager

from penstock.objects.secrets import redacted_text
from penstock.objects.texts import clean, text_of


class VisibleLogs:
    """Shows records of flows and tasks on standard error during runs if no handler is installed.

    Scripts and notebooks usually have no log handler, and a program that is silent for a minute looks hung. If the root
    logger or `penstock` has handlers, this does nothing. One instance serves the process, so that concurrent runs show
    a line once.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._runs = 0
        self._handler = ErrorStream()
        self._before: dict[str, int] = {}

    def shown(self, level: str, extra: Iterable[str] = ()) -> AbstractContextManager[None]:
        """Show records of `penstock` and the `extra` loggers from a level upwards, during the block."""
        return _Shown(self, level, ("penstock", *extra))

    def begin(self, level: str, names: Iterable[str]) -> None:
        """Count a starting run, and install the handler where there is none."""
        with self._guard:
            self._runs += 1
            for name in names:
                logger = logging.getLogger(name)
                if name not in self._before and not logger.hasHandlers():
                    self._before[name] = logger.level
                    logger.addHandler(self._handler)
                    logger.setLevel(level)

    def end(self) -> None:
        """Count an ended run, and restore the loggers after the last one."""
        with self._guard:
            self._runs -= 1
            if self._runs:
                return
            for name, level in self._before.items():
                logging.getLogger(name).removeHandler(self._handler)
                logging.getLogger(name).setLevel(level)
            self._before.clear()


class _Shown:
    """The block of `shown`. A class, because contextlib's generators set tracebacks, which some exceptions refuse."""

    __slots__ = ("_level", "_logs", "_names")

    def __init__(self, logs: VisibleLogs, level: str, names: tuple[str, ...]) -> None:
        self._logs, self._level, self._names = logs, level, names

    def __enter__(self) -> None:
        self._logs.begin(self._level, self._names)

    def __exit__(self, *raised: object) -> None:
        self._logs.end()


class ErrorStream(logging.Handler):
    """Writes to the current `sys.stderr`, which a live view or a notebook may have replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{clean(redacted_text(text_of(record, self.format)))}\n")


visible_logs = VisibleLogs()
