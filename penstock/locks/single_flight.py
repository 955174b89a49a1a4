"""Single flight: who keeps the calls of one key apart, whether that was asked for, and what happens where it cannot be.

A task whose policy says SERIALIZABLE runs under its lock or not at all. Any other task whose results are shared across
runs runs under a lock as well, if there is one to be had: where there is none it runs all the same, and may be computed
twice at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from penstock.graph.graphs import Node
from penstock.locks.base import LockManager

FAR_SECONDS = 5.0
"""Locks that cost many requests, in a store far away, are for calls that are known to take at least so long."""


@dataclass(frozen=True, slots=True)
class Flight:
    """How calls of a task with one key treat each other."""

    manager: LockManager | None
    """Who locks the key; None: everyone may compute it."""
    required: bool = False
    """The policy asks for it: without the lock nothing runs."""
    after_seconds: float = 0.0
    """Only calls that are known to take so long are locked."""
    why: str = ""
    """Why calls may compute a key at the same time, if they may."""


FlightOf = Callable[[Node], Flight]
"""The flight of a node, as things stand."""
EVERYONE = Flight(None)
