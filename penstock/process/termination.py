"""SIGTERM ends a run as orderly as Ctrl-C: `finally` blocks run, the record says "cancelled", nothing is left behind.

Only where nobody else decided what it does: with the system's own handler in place, in the main thread.
"""

from __future__ import annotations

import signal
import threading
from typing import NoReturn

EXIT_CODE = 128 + signal.SIGTERM


class Terminated(SystemExit):
    """The process was told to end. Uncaught it ends as shells expect it, with status 143."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class ends_orderly:
    """In the block SIGTERM raises `Terminated` in the main thread; a second one ends the process at once."""

    def __init__(self) -> None:
        self._ours = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._ours = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if self._ours:
            signal.signal(signal.SIGTERM, _terminate)

    def __exit__(self, *raised: object) -> None:
        if self._ours and signal.getsignal(signal.SIGTERM) is _terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated
