"""SIGTERM ends a run as cleanly as Ctrl-C: `finally` blocks run, and the run is recorded as cancelled.

Only in the main thread, and only if no other handler is installed.
"""

from __future__ import annotations

import signal
import threading
from typing import NoReturn

EXIT_CODE = 128 + signal.SIGTERM


class Terminated(SystemExit):
    """The process received SIGTERM. If it is not caught, the process exits with status 143, as shells expect."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class ends_orderly:
    """Make SIGTERM raise `Terminated` in the main thread during the block. A second one ends the process at once."""

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
