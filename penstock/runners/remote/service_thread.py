"""The thread of an engine. It runs steps of other threads one after the other, and timed steps when they are due."""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")
Step = Callable[[], object]


class ServiceThread:
    """A thread that runs steps in the order in which other threads add them."""

    def __init__(self, name: str, *, on_error: Callable[[Exception], None], after: Step = lambda: None) -> None:
        """Start the thread.

        Args:
            name: The name of the thread.
            on_error: Called in the thread with each exception of a step.
            after: Called in the thread whenever no step is waiting.
        """
        self._on_error = on_error
        self._after = after
        self._guard = threading.Lock()
        self._closed = False
        self._inbox: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        self._timers: list[tuple[float, int, Step]] = []  # the thread's own
        self._count = itertools.count()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def do(self, step: Step) -> None:
        """Run a step soon."""
        self._inbox.put(step)

    def ask(self, question: Callable[[], T]) -> T:
        """Call a function in the thread, and return or raise its result.

        Raises:
            RuntimeError: The thread is closed.
        """
        answer: Future[T] = Future()

        def settle() -> None:
            try:
                answer.set_result(question())
            except Exception as error:  # noqa: BLE001 (handed to the thread that asks)
                answer.set_exception(error)

        with self._guard:
            if self._closed:
                raise RuntimeError("the run is over")
            self._inbox.put(settle)
        return answer.result()

    def later(self, seconds: float, step: Step) -> None:
        """Run a step after a number of seconds."""
        due = (time.monotonic() + seconds, next(self._count), step)
        self._inbox.put(lambda: heapq.heappush(self._timers, due))

    def every(self, seconds: float, step: Step) -> None:
        """Run a step repeatedly, for the first time now."""

        def again() -> None:
            self.later(seconds, again)
            step()

        self._inbox.put(again)

    def close(self) -> None:
        """End the thread after all steps that were added before."""
        with self._guard:
            self._closed = True
            self._inbox.put(None)
        self._thread.join()

    def _serve(self) -> None:
        over = False
        while not over:
            for step in self._next():
                over = over or step is None
                self._try(step)
            self._try(self._after)

    def _next(self) -> Iterator[Step | None]:
        """Wait for a step, then yield all steps that are due."""
        wait = None if not self._timers else max(0.0, self._timers[0][0] - time.monotonic())
        try:
            first = self._inbox.get(timeout=wait)
        except queue.Empty:
            pass
        else:
            yield first
            for _ in range(self._inbox.qsize()):  # later ones come after the timed steps that are due
                yield self._inbox.get_nowait()
        while self._timers and self._timers[0][0] <= time.monotonic():
            yield heapq.heappop(self._timers)[2]

    def _try(self, step: Step | None) -> None:
        try:
            if step is not None:
                step()
        except Exception as error:  # noqa: BLE001 (passed to on_error)
            self._on_error(error)
