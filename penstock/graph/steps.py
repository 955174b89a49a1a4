"""What a planner asks for, what it is told, and what it decides of each node."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """What the plan says of a node."""

    HIT = "hit"
    MISS = "miss"
    PRUNED = "pruned"
    BYPASS = "bypass"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Query:
    """One look-up the planner wants: by cache key where it is known, else by recipe key. Nobody changes one."""

    node: int
    task: str
    """The task's identity."""
    cache_key: str | None
    recipe_key: str | None


@dataclass(slots=True, eq=False)
class Hit:
    """A stored result for a node. Nobody changes one."""

    cache_key: str
    digest: str
    """Of the value."""
    record: Any
    """What the store gave; nothing here looks into it."""
    inputs: Sequence[str] | None = None
    """For a recipe hit: what it was made from, as `Planner.claim` writes it, in the order of the node's deps."""
    expires: float | None = None
    """The earliest expiry of the result and of all it was made from, seconds since the epoch."""
    origin: str | None = None
    """Which run made it, or noted it for its recipe: the values of one run belong together."""
    size: int | None = None
    seconds: float | None = None


@dataclass(slots=True, eq=False)
class NoHit:
    """No usable result. `record` is an expired or damaged one that was seen instead. Nobody changes one."""

    reason: str
    record: Any = None
    seconds: float | None = None
    digest: str | None = None
    """Of the value that the node's recipe once led to: the result is gone, what was made of what is still known."""
    inputs: Sequence[str] | None = None
    """What that value was made from, as in `Hit`."""
    origin: str | None = None
    """As in `Hit`, of this statement."""


@dataclass(frozen=True, slots=True, eq=False)
class NoAnswer:
    """The store did not say, or has what must not be used. Never the same as a miss."""

    error: Exception
    generation: int | None = None
    """Of the result that must not be used."""


Answer = Hit | NoHit | NoAnswer


@dataclass(slots=True, eq=False)
class Step:
    """What was decided for one node."""

    status: Status
    reason: str
    answer: Answer | None = None
    digest: str | None = None
    """Of the node's value, once it is known: a hit's, or a finished run's."""

    @property
    def runs(self) -> bool:
        """Whether the node has to be handed to a runner (or decided by its cache key when its inputs are there)."""
        return self.status is not Status.HIT and self.status is not Status.PRUNED


@dataclass(slots=True)
class Counters:
    """What planning cost."""

    rounds: int = 0
    """Batches of look-ups."""
    lookups: int = 0
    """Nodes asked for."""


Rounds = Generator[list[Query], list[Answer], None]
