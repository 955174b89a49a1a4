"""Collect what the thread of a call logs on a worker, for the driver."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.worker.remote import plain


class _ThreadLogs(logging.Handler):
    """Collects records by thread, because the threads of a worker may serve different drivers."""

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[int, list[tuple[str, int, str]]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        records = self.records.get(threading.get_ident())
        if records is not None:
            records.append(plain(record))


_thread_logs = _ThreadLogs()


@contextmanager
def collected_logs(*, enabled: bool) -> Iterator[list[tuple[str, int, str]]]:
    """Return a context manager that yields a list of what this thread logs in the block, for the driver to show."""
    records: list[tuple[str, int, str]] = []
    if not enabled:  # the driver is this process: its handlers see the records anyway
        yield records
        return
    logger = logging.getLogger("penstock")
    if _thread_logs not in logger.handlers:
        logger.addHandler(_thread_logs)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
    _thread_logs.records[threading.get_ident()] = records
    try:
        yield records
    finally:
        del _thread_logs.records[threading.get_ident()]
