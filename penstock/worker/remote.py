"""Common parts of the worker processes of all engines: opened stores, collected logs, portable outcomes."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Iterable
from typing import Any

from penstock.errors import RunnerError
from penstock.objects.texts import text_of
from penstock.storage import open_store
from penstock.storage.results.store import ResultStore
from penstock.storage.stores.base import Store
from penstock.storage.stores.indexing import index_from, with_index
from penstock.worker.failures import portable
from penstock.worker.messages import Outcome, WorkerContext


def stores_of(context: WorkerContext, *, check: Callable[[Store], None] | None = None) -> Callable[[Any], ResultStore]:
    """Return a function that opens the results of a store by address (None is the run's), each once.

    `check` is called with the run's own store before it is used.
    """
    opened: dict[Any, ResultStore] = {}
    index = index_from(context.index) if context.index else None

    def open_results(wanted: Any) -> ResultStore:
        name = wanted.url if hasattr(wanted, "url") else wanted
        results = opened.get(name)
        if results is None:
            given = context.store if wanted is None else wanted
            store = with_index(open_store(given) if isinstance(given, str | os.PathLike) else given, index)
            if wanted is None and check is not None:
                check(store)
            results = opened[name] = ResultStore(store, signatures=context.signatures)
        return results

    return open_results


def prepare(context: WorkerContext) -> None:
    """Call the run's `worker_setup` in this process. Raises `RunnerError` if it fails."""
    if context.settings is not None:
        for handler in logging.getLogger("penstock").handlers:
            if isinstance(handler, CollectedLogs):
                handler.collect(context.settings.extra_loggers)
    if context.setup is None:
        return
    try:
        context.setup()
    except Exception as error:
        raise RunnerError(
            "the worker_setup function failed in a worker process",
            where=f"{platform.node()}:{os.getpid()}, worker_setup={getattr(context.setup, '__qualname__', '')}",
            because=f"{type(error).__name__}: {error}",
            hint="see the traceback above",
        ) from error


def portable_outcomes(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the outcomes in a form for other processes."""
    travelling = list(outcomes)
    for outcome in travelling:
        if outcome.failure is not None:
            outcome.failure = portable(outcome.failure)
    return travelling


class CollectedLogs(logging.Handler):
    """Collects log records of tasks for the driver. One instance for each process."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[tuple[str, int, str]] = []
        logger = logging.getLogger("penstock")
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        logger.propagate = False

    def collect(self, names: Iterable[str]) -> None:
        """Also collect the records of these loggers."""
        for name in names:
            logger = logging.getLogger(name)
            if self not in logger.handlers:
                logger.addHandler(self)
                logger.setLevel(logging.INFO)
                logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(plain(record))

    def take(self) -> list[tuple[str, int, str]]:
        """Return the records since the last call: the logger's name, the level and the text of each."""
        records, self._records = self._records, []
        return records


def plain(record: logging.LogRecord) -> tuple[str, int, str]:
    """Return the logger's name, the level and the text of a record, which may contain any object."""
    return text_of(record.name), int(record.levelno), text_of(record, logging.LogRecord.getMessage)


def log_again(records: Iterable[tuple[str, int, str]]) -> None:
    """Log records in the driver that were collected on a worker."""
    for name, level, text in records:
        logging.getLogger(name).log(level, "%s", text)
