"""Logs that are seen: what flows and tasks say is shown where nobody else listens."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager

from penstock.objects.secrets import redacted_text
from penstock.objects.texts import clean, text_of


class VisibleLogs:
    """Shows what flows and tasks log on standard error while runs are under way, where nobody else listens.

    Scripts and notebooks have no handler for logs, and a program that says nothing for a minute looks hung. Where the
    root logger or `penstock` has handlers, those decide. One for the process: runs at the same time show a line once.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._runs = 0
        self._handler = ErrorStream()
        self._before: dict[str, int] = {}

    def shown(self, level: str, extra: Iterable[str] = ()) -> AbstractContextManager[None]:
        """Show `penstock` and the loggers named by `extra` from a level on, as long as the block lasts."""
        return _Shown(self, level, ("penstock", *extra))

    def begin(self, level: str, names: Iterable[str]) -> None:
        """A run begins whose logs are to be seen."""
        with self._guard:
            self._runs += 1
            for name in names:
                logger = logging.getLogger(name)
                if name not in self._before and not logger.hasHandlers():
                    self._before[name] = logger.level
                    logger.addHandler(self._handler)
                    logger.setLevel(level)

    def end(self) -> None:
        """A run that began is over."""
        with self._guard:
            self._runs -= 1
            if self._runs:
                return
            for name, level in self._before.items():
                logging.getLogger(name).removeHandler(self._handler)
                logging.getLogger(name).setLevel(level)
            self._before.clear()


class _Shown:
    """The block. No generator: in one, contextlib sets the traceback of an exception, which some do not let it."""

    __slots__ = ("_level", "_logs", "_names")

    def __init__(self, logs: VisibleLogs, level: str, names: tuple[str, ...]) -> None:
        self._logs, self._level, self._names = logs, level, names

    def __enter__(self) -> None:
        self._logs.begin(self._level, self._names)

    def __exit__(self, *raised: object) -> None:
        self._logs.end()


class ErrorStream(logging.Handler):
    """Writes to what standard error is at the moment: a live view, or a notebook, puts its own in place."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{clean(redacted_text(text_of(record, self.format)))}\n")


visible_logs = VisibleLogs()
