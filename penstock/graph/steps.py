"""The planner's queries, the answers to these, and its decisions about nodes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct


class Status(StrEnum):
    """The status of a node in a plan."""

    HIT = "hit"
    MISS = "miss"
    PRUNED = "pruned"
    BYPASS = "bypass"
    UNKNOWN = "unknown"


class Query(Struct):
    """A lookup that the planner requests: by cache key if it is known, else by recipe key. Never modified."""

    node: int
    task: str
    """The task's identity."""
    cache_key: str | None
    recipe_key: str | None


class Hit(Struct, eq=False):
    """A stored result for a node. Never modified."""

    cache_key: str
    digest: str
    """The digest of the value."""
    record: Any
    """The store's record, which the planner does not inspect."""
    inputs: Sequence[str] | None = None
    """For a recipe hit, the statements about its inputs (`Planner.statement`), in the order of the node's deps."""
    expires: float | None = None
    """The earliest expiry of the result and everything it was computed from, in seconds since the epoch."""
    cohort: str | None = None
    """The cohort of its record or of its recipe entry. The values of one cohort belong together."""
    size: int | None = None
    """The size of the stored value in bytes."""
    seconds: float | None = None
    """The duration of its computation."""


class NoHit(Struct, eq=False):
    """No usable result. `record` is an expired or damaged one that was found instead. Never modified."""

    reason: str
    record: Any = None
    seconds: float | None = None
    digest: str | None = None
    """The digest to which the node's recipe led before: the result is gone, but its recipe entry remains."""
    inputs: Sequence[str] | None = None
    """The inputs of that result, as in `Hit`."""
    cohort: str | None = None
    """The cohort of the recipe entry."""


class NoAnswer(Struct, frozen=True, eq=False):
    """The store did not answer, or its result must not be used. Never treated as a miss."""

    error: Exception
    generation: int | None = None
    """The generation of the result that must not be used."""


Answer = Hit | NoHit | NoAnswer


class Step(Struct, eq=False):
    """The decision about one node."""

    status: Status
    reason: str
    answer: Answer | None = None
    digest: str | None = None
    """The digest of the node's value, once it is known."""

    @property
    def runs(self) -> bool:
        """Whether the node must run, unless its cache key turns out to be a hit once its inputs are known."""
        return self.status is not Status.HIT and self.status is not Status.PRUNED


class Counters(Struct):
    """The costs of planning."""

    rounds: int = 0
    """The number of batches of lookups."""
    lookups: int = 0
    """The number of nodes looked up."""


Rounds = Generator[list[Query], list[Answer], None]
