"""Watch whether the cluster of a run still answers, in a separate thread because an answer may take long."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LOOK_SECONDS = 2.0
"""The pause between two looks, in seconds."""
ANSWER_SECONDS = 5.0
"""How long a look may wait for an answer, in seconds."""


class Away(Exception):
    """The cluster does not answer, but may come back. The message is the reason."""


class Gone(Away):
    """The cluster will not come back."""


def answered(ask: Callable[[], T]) -> T:
    """Return what `ask` returns. Raises `Away` for an error, or if that takes longer than `ANSWER_SECONDS`.

    In a thread of its own: some clients wait for minutes for a server that ends in the middle of a call.
    """
    answers: queue.SimpleQueue[tuple[T] | Exception] = queue.SimpleQueue()

    def asking() -> None:
        try:
            answers.put((ask(),))
        except Exception as error:  # noqa: BLE001 (any error means no answer)
            answers.put(error)

    threading.Thread(target=asking, name="penstock-asking", daemon=True).start()
    try:
        answer = answers.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        raise Away("its head does not answer") from None
    if isinstance(answer, Exception):
        raise Away(f"its head does not answer: {str(answer).strip().partition(chr(10))[0]}") from answer
    return answer[0]


class Watch:
    """A thread that looks at a cluster until it is closed, or the cluster is lost."""

    def __init__(self, look: Callable[[], None], *, patience: float, on_lost: Callable[[str], None], name: str) -> None:
        """Start the thread.

        Args:
            look: Called repeatedly in the thread. It raises `Away` or `Gone` if the cluster does not answer.
            patience: After so many seconds away, the cluster is lost.
            on_lost: Called in the thread with the reason when the cluster is lost. The thread then ends.
            name: The name of the thread.
        """
        self._look, self._patience, self._on_lost = look, patience, on_lost
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()
        self._thread.join(ANSWER_SECONDS)  # it may be waiting for an answer

    def _watch(self) -> None:
        seen = time.monotonic()
        while not self._closed.wait(LOOK_SECONDS):
            try:
                self._look()
            except Away as error:
                seen = -math.inf if isinstance(error, Gone) else seen
                if time.monotonic() - seen >= self._patience and not self._closed.is_set():
                    self._on_lost(str(error))
                    return
            else:
                seen = time.monotonic()
