"""`log_prints`: sends what a task or flow prints to the log, separately for each thread."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any


class _PrintRouter:
    """Replaces sys.stdout while prints are being logged, and redirects only the threads concerned."""

    def __init__(self, stdout: Any) -> None:
        self.stdout = stdout
        self.loggers: dict[int, list[logging.Logger | None]] = {}
        self._parts: dict[int, str] = {}

    def write(self, text: str) -> int:
        thread = threading.get_ident()
        loggers = self.loggers.get(thread)
        logger = loggers[-1] if loggers else None
        if logger is None:
            return int(self.stdout.write(text))
        *lines, rest = (self._parts.get(thread, "") + text).split("\n")
        self._parts[thread] = rest
        for line in lines:
            logger.info("%s", line, stacklevel=2)  # attributed to the caller of print
        return len(text)

    def finish(self) -> None:
        """Log an unfinished line at the end of the block."""
        thread = threading.get_ident()
        logger = self.loggers[thread][-1]
        if logger is not None and (rest := self._parts.pop(thread, "")):
            logger.info("%s", rest, stacklevel=2)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stdout, name)


_routing = threading.Lock()


def to_be_routed(enabled: bool | None) -> bool:
    """Return whether `printing_to_log` has any effect."""
    return enabled or (enabled is False and isinstance(sys.stdout, _PrintRouter))


class printing_to_log:
    """Send what this thread prints in the block to the logger `penstock.<kind>.<name>`, one record per line.

    False restores normal printing, also inside a block that logs; None changes nothing.
    """

    __slots__ = ("_enabled", "_logger", "_router")

    def __init__(self, name: str, *, enabled: bool | None, kind: str = "task_runs") -> None:
        self._enabled = enabled
        self._logger = logging.getLogger(f"penstock.{kind}.{name}") if enabled else None
        self._router: _PrintRouter | None = None

    def __enter__(self) -> None:
        if not to_be_routed(self._enabled):
            return
        thread = threading.get_ident()
        with _routing:
            router = sys.stdout if isinstance(sys.stdout, _PrintRouter) else None
            routed = router is not None and thread in router.loggers
            if not (self._enabled or (self._enabled is False and routed)):
                return
            self._router = router = router or _PrintRouter(sys.stdout)
            sys.stdout = router
            router.loggers.setdefault(thread, []).append(self._logger)

    def __exit__(self, *raised: object) -> None:
        router, thread = self._router, threading.get_ident()
        if router is None:
            return
        router.finish()
        with _routing:
            router.loggers[thread].pop()
            if not router.loggers[thread]:
                del router.loggers[thread]
            if not router.loggers and sys.stdout is router:
                sys.stdout = router.stdout
