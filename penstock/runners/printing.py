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
        self.loggers: dict[int, list[logging.Logger]] = {}
        self._parts: dict[int, str] = {}

    def write(self, text: str) -> int:
        thread = threading.get_ident()
        loggers = self.loggers.get(thread)
        if not loggers:
            return int(self.stdout.write(text))
        *lines, rest = (self._parts.get(thread, "") + text).split("\n")
        self._parts[thread] = rest
        for line in lines:
            loggers[-1].info(line)
        return len(text)

    def finish(self) -> None:
        thread = threading.get_ident()
        rest = self._parts.pop(thread, "")
        if rest:
            self.loggers[thread][-1].info(rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stdout, name)


_routing = threading.Lock()


@contextlib.contextmanager
def printing_to_log(name: str, *, enabled: bool, kind: str = "task_runs") -> Iterator[None]:
    """What this thread prints in the block goes to the logger `penstock.<kind>.<name>`, a record per line."""
    if not enabled:
        yield
        return
    thread = threading.get_ident()
    with _routing:
        router = sys.stdout if isinstance(sys.stdout, _PrintRouter) else _PrintRouter(sys.stdout)
        sys.stdout = router
        router.loggers.setdefault(thread, []).append(logging.getLogger(f"penstock.{kind}.{name}"))
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
