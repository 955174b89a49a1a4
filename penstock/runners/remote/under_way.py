"""In the driver: bundles under way, handles to the values that they leave, and outcomes that all calls of one share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from penstock.runners.remote.handles import Argument
from penstock.worker.messages import NO_GENERATION, Bundle, Failure, Outcome, OutcomeKind


@dataclass(slots=True, eq=False)
class Left:
    """What a bundle leaves with the workers."""

    key: Any = None
    """What the engine has the values by, which are there by node."""
    nodes: set[int] = field(default_factory=set)
    """Whose values are not released yet."""
    alone: bool = True
    """It is one value."""

    def add(self, node: int) -> None:
        """A node's value stays, too."""
        self.nodes.add(node)
        self.alone = len(self.nodes) == 1


@dataclass(slots=True, eq=False)
class InFlight:
    """A bundle that the driver waits for. Engines add what they know it by."""

    bundle: Bundle
    name: str
    """Flow and task, as people know them."""
    data: bytes
    """The bundle, packed."""
    sources: list[Any]
    """What the engine has to bring along, in this order: the values that the calls are given."""
    arguments: list[Argument]
    """The large arguments of its calls."""
    timed: bool
    """It matters when it begins: a call has a time-out."""
    follows: list[InFlight] = field(default_factory=list)
    """What it was promised values of."""
    left: Left = field(default_factory=Left)

    def forget_followed(self) -> None:
        """It is over. Else the last of a long chain would hold all before it."""
        if self.follows:
            self.follows = []
            for handle in promised_to(self.bundle):
                handle.flight = None


@dataclass(slots=True, eq=False)
class Kept:
    """A handle to a value that stays with the workers."""

    ref: Any
    """What the engine has it by: what its bundle `Left`, or a reference of the engine's own."""
    item: int
    """Which of the values there it is: by node, if it is among what a bundle left."""


@dataclass(slots=True, eq=False)
class Promised(Kept):
    """A handle to a value that a bundle under way will make."""

    flight: InFlight | None
    """None if the bundle was over already."""


def promised_to(bundle: Bundle) -> list[Promised]:
    """What other bundles are to make for it."""
    sources = (source for call in bundle.calls for source in call.inputs.values())
    return [source.handle for source in sources if isinstance(source.handle, Promised)]


def outcomes_of_all(bundle: Bundle, kind: OutcomeKind, failure: Failure | None = None) -> list[Outcome]:
    """The same for all calls of a bundle."""
    return [Outcome(call.node, call.attempt, kind, failure=failure) for call in bundle.calls]


def without_lost(bundle: Bundle, is_lost: Callable[[Any], bool]) -> list[Outcome]:
    """Take out handles of values that are lost: they are loaded from the store instead, or have to be made again.

    Returns outcomes for a bundle that does not run because of that; none if nothing is lost. Those of calls that can
    be tried again as they are now have nothing `lost`.
    """
    lost: dict[int, dict[int, int]] = {}
    for call in bundle.calls:
        gone = {node: source for node, source in call.inputs.items() if is_lost(source.handle)} if call.inputs else {}
        for source in gone.values():
            source.handle = None
        if gone:
            lost[call.node] = {node: NO_GENERATION for node, source in gone.items() if source.record is None}
    if not lost:
        return []
    outcomes = []
    for call in bundle.calls:
        unstored = lost.get(call.node, {})
        kind: OutcomeKind = "input_lost" if unstored else "not_started"
        outcomes.append(Outcome(call.node, call.attempt, kind, lost=unstored))
    return outcomes
