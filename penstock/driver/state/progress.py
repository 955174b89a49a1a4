"""How far one node has come, and when: what `RunState` keeps of each node that runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Moment(NamedTuple):
    """When something happened."""

    at: float
    """Seconds since the epoch."""
    monotonic: float


@dataclass(slots=True, eq=False)
class Progress:
    """How far a node that runs has come. Written by `RunState` alone."""

    attempt: int = 1
    losses: int = 0
    """Attempts that ended with the death of the worker."""
    key: str | None = None
    """The cache key, once it is known."""
    key_age: int = 0
    """`RunState.age` of the inputs that the key was computed from."""
    inputs_age: int = 0
    """`RunState.inputs_age` of the node when the attempt was handed over."""
    looked_up: bool = False
    """The key was looked up since the node became ready."""
    seen: int | None = None
    """A generation that must not be used: damaged, or to be refreshed."""
    leased: bool = False
    """It has the lock of its key, or was let off it."""
    parked_since: float | None = None
    """When it was parked, as `Moment.monotonic`; None if it does not wait for anybody."""
    parked_on: tuple[str, int] | None = None
    """The session and token of the holder it was last said to wait for."""
    error: BaseException | None = None
    limited: bool = False
    """Its task has a tag of which only so many may run at once, or begin in a time."""
    alone: bool = False
    """It was in a bundle whose worker died: from now on it travels by itself."""
