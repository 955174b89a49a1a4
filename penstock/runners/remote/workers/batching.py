"""How workers tell drivers what came of bundles: at once when there is little to tell, else several together.

For clusters where each message costs about as much as a small call does, however much is in it.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

GAP_SECONDS = 0.005
"""Messages of a worker follow each other by no less: what is to be told in between is told together."""
COMPRESS_BYTES = 16 * 1024
"""Outcomes larger than this are compressed: on their way they may be kept for a while."""


class Told(NamedTuple):
    """What happened to a bundle."""

    run: str
    what: str
    """`started`, or `finished`."""
    bundle: int
    content: bytes = b""
    """Outcomes, `compressed`."""


class Batcher:
    """What one worker has to tell, by driver. Called from any of its threads."""

    def __init__(
        self, send: Callable[[str, Sequence[Told]], None], later: Callable[[float, Callable[[], None]], None]
    ) -> None:
        """`send(driver, told)` sends a message; `later(seconds, do)` has something done later, in whatever thread."""
        self._send = send
        self._later = later
        self._guard = threading.Lock()
        self._waiting: dict[str, list[Told]] = {}
        self._flushing = False
        self._sent = 0.0

    def tell(self, driver: str, told: Told) -> None:
        """Tell it now, or a few milliseconds later with what comes until then."""
        with self._guard:
            self._waiting.setdefault(driver, []).append(told)
            if self._flushing:
                return
            wait = self._sent + GAP_SECONDS - time.monotonic()
            self._flushing = wait > 0
        if wait > 0:
            self._later(wait, self._flush)
        else:
            self._flush()

    def _flush(self) -> None:
        with self._guard:
            waiting, self._waiting = self._waiting, {}
            self._flushing = False
            self._sent = time.monotonic()
        for driver, told in waiting.items():
            self._send(driver, told)


Listen = Callable[[str, int, bytes], None]
"""Called with what happened, to which bundle, and the outcomes."""


class Listeners:
    """In a driver: who hears of the bundles of which run."""

    def __init__(self) -> None:
        self._listeners: dict[str, Listen] = {}

    def listen(self, run: str, listener: Listen) -> None:
        """Hear of the bundles of a run until `leave`."""
        self._listeners[run] = listener

    def leave(self, run: str) -> None:
        """Nobody wants to hear of the run's bundles any more."""
        self._listeners.pop(run, None)

    def hear(self, message: Iterable[Sequence[object]]) -> None:
        """A worker told something: see `Told`."""
        for each in message:
            run, what, bundle, content = Told(*each)  # type: ignore[arg-type]  # as a worker of this version sent it
            listener = self._listeners.get(run)
            if listener is not None:
                listener(what, bundle, expanded(content))


def compressed(outcomes: bytes) -> bytes:
    """What `expanded` reads."""
    return b"z" + zlib.compress(outcomes, 1) if len(outcomes) > COMPRESS_BYTES else b"-" + outcomes


def expanded(content: bytes) -> bytes:
    """What a worker compressed. Raises `zlib.error` if it is damaged."""
    return zlib.decompress(content[1:]) if content[:1] == b"z" else content[1:]
