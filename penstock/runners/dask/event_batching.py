"""How a Dask worker tells drivers what came of bundles: at once when there is little to tell, else several together.

Each event costs the scheduler and the client about as much as a small task does, however much is in it.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any

GAP_SECONDS = 0.005
"""Events of a worker follow each other by no less: what is to be told in between is told together."""
EVENT = "penstock"

Told = tuple[str, str, int, bytes]
"""The run, what happened, to which bundle, and its outcomes."""


class EventBatcher:
    """What one Dask worker has to tell, by topic. Called from any of its threads."""

    def __init__(self, worker: Any) -> None:
        self._worker = weakref.ref(worker)
        self._loop = worker.loop
        self._guard = threading.Lock()
        self._waiting: dict[str, list[Told]] = {}
        self._flushing = False
        self._sent = 0.0

    def tell(self, topic: str, run: str, what: str, bundle: int, content: bytes) -> None:
        """Tell it now, or a few milliseconds later with what comes until then."""
        with self._guard:
            self._waiting.setdefault(topic, []).append((run, what, bundle, content))
            if self._flushing:
                return
            wait = self._sent + GAP_SECONDS - time.monotonic()
            self._flushing = wait > 0
        if wait > 0:
            self._loop.add_callback(self._loop.call_later, wait, self._flush)
        else:
            self._flush()

    def _flush(self) -> None:
        worker = self._worker()
        with self._guard:
            waiting, self._waiting = self._waiting, {}
            self._flushing = False
            self._sent = time.monotonic()
        if worker is not None:
            for topic, told in waiting.items():
                worker.log_event(topic, (EVENT, told))


_batchers: weakref.WeakKeyDictionary[Any, EventBatcher] = weakref.WeakKeyDictionary()
_batchers_guard = threading.Lock()


def batcher_of(worker: Any) -> EventBatcher:
    """The one teller of a Dask worker; a process may have several workers."""
    with _batchers_guard:
        batcher = _batchers.get(worker)
        if batcher is None:
            batcher = _batchers[worker] = EventBatcher(worker)
        return batcher
