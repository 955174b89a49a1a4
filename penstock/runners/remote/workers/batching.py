"""Messages of workers to drivers about bundles: sent at once if there are few, otherwise in batches.

For clusters where each message costs about as much as a small call, whatever its size.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

GAP_SECONDS = 0.005
"""The shortest pause between two messages of a worker. Reports in between are sent together."""
COMPRESS_BYTES = 16 * 1024
"""Outcomes larger than this are compressed, because the cluster may keep messages for a while."""


class Told(NamedTuple):
    """A report: what happened to a bundle."""

    run: str
    what: str
    """`started` or `finished`."""
    bundle: int
    content: bytes = b""
    """The outcomes, as `compressed` returns them."""


class Batcher:
    """The reports of one worker, by driver. Safe to use from several threads."""

    def __init__(
        self, send: Callable[[str, Sequence[Told]], None], later: Callable[[float, Callable[[], None]], None]
    ) -> None:
        """Create a batcher.

        Args:
            send: Sends reports to a driver in one message.
            later: Calls a function after a number of seconds, in any thread.
        """
        self._send = send
        self._later = later
        self._guard = threading.Lock()
        self._waiting: dict[str, list[Told]] = {}
        self._flushing = False
        self._sent = 0.0

    def tell(self, driver: str, told: Told) -> None:
        """Send a report now, or within `GAP_SECONDS` together with others."""
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
"""Called with what happened, the number of the bundle, and the outcomes."""


class Listeners:
    """In a driver: the listeners for the bundles of its runs."""

    def __init__(self) -> None:
        self._listeners: dict[str, Listen] = {}

    def listen(self, run: str, listener: Listen) -> None:
        """Call a listener with the reports about a run until `leave`."""
        self._listeners[run] = listener

    def leave(self, run: str) -> None:
        """Remove the listener of a run."""
        self._listeners.pop(run, None)

    def hear(self, message: Iterable[Sequence[object]]) -> None:
        """Pass the reports of a message on to their listeners."""
        for each in message:
            run, what, bundle, content = Told(*each)  # type: ignore[arg-type]  # as a worker of this version sent it
            listener = self._listeners.get(run)
            if listener is not None:
                listener(what, bundle, expanded(content))


def compressed(outcomes: bytes) -> bytes:
    """Return the outcomes, compressed if they are large. `expanded` reads them."""
    return b"z" + zlib.compress(outcomes, 1) if len(outcomes) > COMPRESS_BYTES else b"-" + outcomes


def expanded(content: bytes) -> bytes:
    """Return the outcomes that `compressed` packed. Raises `zlib.error` if they are damaged."""
    return zlib.decompress(content[1:]) if content[:1] == b"z" else content[1:]
