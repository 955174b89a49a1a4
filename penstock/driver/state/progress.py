"""The progress of one node, which `RunState` keeps for each node that runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from penstock.driver.state.values import Result


class Moment(NamedTuple):
    """A point in time on two clocks."""

    at: float
    """Seconds since the epoch."""
    monotonic: float


@dataclass(slots=True, eq=False)
class Progress:
    """The progress of a node that runs. Written by `RunState` only."""

    attempt: int = 1
    losses: int = 0
    """The number of attempts whose worker died."""
    key: str | None = None
    """The cache key, once it is known."""
    key_age: int = 0
    """The `Ages.of_inputs` when the key was computed."""
    changes: int = 0
    """The `Ages.changes_of_inputs` when the attempt was submitted."""
    looked_up: bool = False
    """Whether the key was looked up since the node became ready."""
    seen: int | None = None
    """A generation that must not be used: damaged, or to be refreshed."""
    leased: bool = False
    """Whether it has the lock of its key, or needs none."""
    parked_since: float | None = None
    """When it was parked, as `Moment.monotonic`; None if it is not waiting."""
    parked_on: tuple[str, int] | None = None
    """The session and fencing token of the holder that was last reported."""
    error: BaseException | None = None
    limited: bool = False
    """Whether its task has a tag with a limit or a rate."""
    before: Result | None = None
    """Its earlier value, with which the new one must be compared."""
    alone: bool = False
    """Whether it must travel by itself, since it was in a bundle whose worker died."""
