"""Single flight: which lock prevents concurrent calls of one key, and whether a call may run without it.

A task with the isolation level SERIALIZABLE runs only under its lock. Any other task whose results are shared across
runs uses a lock if one is available. If none is, the task runs anyway, and may be computed twice at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from penstock.graph.graphs import Node
from penstock.locks.base import LockManager

FAR_SECONDS = 5.0
"""Locks in a remote store cost many requests, so only calls that are known to take this many seconds use them."""


@dataclass(frozen=True, slots=True)
class Flight:
    """How concurrent calls of a task with one key are treated."""

    manager: LockManager | None
    """The manager that locks the key; None if all calls may compute it."""
    required: bool = False
    """Whether the policy requires the lock, so that the call must not run without it."""
    after_seconds: float = 0.0
    """Only calls that are known to take at least this many seconds are locked."""
    why: str = ""
    """Why calls may compute a key at the same time; empty if they may not."""


FlightOf = Callable[[Node], Flight]
"""Returns the current flight of a node."""
EVERYONE = Flight(None)
