"""Bundles under way as the driver tracks them, handles to the values that they leave, and common outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from penstock.runners.remote.handles import Argument
from penstock.worker.messages import NO_GENERATION, Bundle, Failure, Outcome, OutcomeKind


@dataclass(slots=True, eq=False)
class Left:
    """The values that a bundle leaves with the workers."""

    key: Any = None
    """The engine's reference to the values, which are stored by node."""
    nodes: set[int] = field(default_factory=set)
    """The nodes whose values are not released yet."""
    alone: bool = True
    """Whether it is a single value."""

    def add(self, node: int) -> None:
        """Note that the value of a node stays."""
        self.nodes.add(node)
        self.alone = len(self.nodes) == 1


@dataclass(slots=True, eq=False)
class InFlight:
    """A bundle for which the driver waits. Engines add their own fields."""

    bundle: Bundle
    name: str
    """The flow and task, for messages."""
    data: bytes
    """The bundle, packed."""
    sources: list[Any]
    """What the engine must send along, in this order: the values that the calls receive."""
    arguments: list[Argument]
    """The large arguments of its calls."""
    timed: bool
    """Whether a call has a timeout, so that the start of the bundle must be reported."""
    follows: list[InFlight] = field(default_factory=list)
    """The bundles that have promised values to it."""
    left: Left = field(default_factory=Left)

    def forget_followed(self) -> None:
        """Drop the references to earlier bundles after the end: a long chain would otherwise keep all of them."""
        if self.follows:
            self.follows = []
            for handle in promised_to(self.bundle):
                handle.flight = None


@dataclass(slots=True, eq=False)
class Kept:
    """A handle to a value that stays with the workers."""

    ref: Any
    """The `Left` of its bundle, or a reference of the engine."""
    item: int
    """Which value it is in `ref`: its node, if `ref` is a `Left`."""


@dataclass(slots=True, eq=False)
class Promised(Kept):
    """A handle to a value that a bundle under way will return."""

    flight: InFlight | None
    """None if the bundle had ended already."""


def promised_to(bundle: Bundle) -> list[Promised]:
    """Return the values that other bundles have promised to this one."""
    sources = (source for call in bundle.calls for source in call.inputs.values())
    return [source.handle for source in sources if isinstance(source.handle, Promised)]


def outcomes_of_all(bundle: Bundle, kind: OutcomeKind, failure: Failure | None = None) -> list[Outcome]:
    """Return the same outcome for all calls of a bundle."""
    return [Outcome(call.node, call.attempt, kind, failure=failure) for call in bundle.calls]


def without_lost(bundle: Bundle, is_lost: Callable[[Any], bool]) -> list[Outcome]:
    """Remove the handles of lost values, so that they are read from the store or computed again.

    Returns:
        Outcomes for a bundle that cannot run because of lost values; empty if none is lost. If a call can be tried
        again as it is now, its outcome has nothing `lost`.
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
