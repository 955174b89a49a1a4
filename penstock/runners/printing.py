"""`log_prints`: what a task or flow prints goes to the log, for the threads that ask for it and no others."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any


class _PrintRouter:
    """Stands in for sys.stdout while anything logs its prints: only the threads that do are redirected."""

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
            logger.info(line)
        return len(text)

    def finish(self) -> None:
        """The block ends: a line without its end is logged too."""
        thread = threading.get_ident()
        logger = self.loggers[thread][-1]
        if logger is not None and (rest := self._parts.pop(thread, "")):
            logger.info(rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stdout, name)


_routing = threading.Lock()


@contextlib.contextmanager
def printing_to_log(name: str, *, enabled: bool | None, kind: str = "task_runs") -> Iterator[None]:
    """What this thread prints in the block goes to the logger `penstock.<kind>.<name>`, a record per line.

    With False it goes where prints go, also inside of a block that logs; with None nothing changes.
    """
    thread = threading.get_ident()
    with _routing:
        router = sys.stdout if isinstance(sys.stdout, _PrintRouter) else None
        routed = router is not None and thread in router.loggers
        changes = enabled or (enabled is False and routed)
        if changes:
            router = router or _PrintRouter(sys.stdout)
            sys.stdout = router
            logger = logging.getLogger(f"penstock.{kind}.{name}") if enabled else None
            router.loggers.setdefault(thread, []).append(logger)
    if not changes or router is None:
        yield
        return
    try:
        yield
    finally:
        router.finish()
        with _routing:
            router.loggers[thread].pop()
            if not router.loggers[thread]:
                del router.loggers[thread]
            if not router.loggers and sys.stdout is router:
                sys.stdout = router.stdout
