"""Whether a cluster that a run uses is still there. A thread of its own asks all the time: an answer may take long."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

LOOK_SECONDS = 2.0
"""The time between two looks."""
ANSWER_SECONDS = 5.0
"""So long a look may wait for an answer."""


class Away(Exception):
    """The cluster does not answer; it may come back. Says why it is thought to be away."""


class Gone(Away):
    """Nothing brings it back."""


class Watch:
    """A thread that looks at a cluster until it is closed, or the cluster is lost."""

    def __init__(self, look: Callable[[], None], *, patience: float, on_lost: Callable[[str], None], name: str) -> None:
        """`look` raises `Away` or `Gone`. A cluster that is away for `patience` seconds is lost: `on_lost(why)` is
        called once, as the last thing. Both are called in the thread, which is called `name`.
        """
        self._look, self._patience, self._on_lost = look, patience, on_lost
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()
        self._thread.join(ANSWER_SECONDS)  # it may be waiting for an answer that never comes

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
