"""Bundles under way in Ray, the values they are given and leave, and outcomes that all calls of one share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.worker.messages import Bundle, Call, Failure, Input, Outcome, OutcomeKind


@dataclass(slots=True, eq=False)
class Kept:
    """A handle: a value in Ray's object store."""

    ref: Any
    """None once it was released."""
    index: int
    """Its place among the values of the same object."""


@dataclass(slots=True, eq=False)
class Promised(Kept):
    """A handle: a value that a bundle under way will make."""

    flight: InFlight | None
    """None if the bundle was over already."""


@dataclass(slots=True, eq=False)
class InFlight:
    """A bundle under way."""

    bundle: Bundle
    sources: list[Any]
    """References to the values it was given."""
    task: Any = None
    """What Ray knows it by."""
    values: list[Any] = field(default_factory=list)
    """References to the values it will have made."""
    follows: list[InFlight] = field(default_factory=list)
    """What it waits for in Ray."""
    broken: bool | None = None
    """Whether Ray failed to run it; None until it has landed."""
    then: list[Callable[[], None]] = field(default_factory=list)
    """To be done once it has landed."""
    overdue: float | None = None
    """It is cancelled; its process is killed at this moment."""


def shippable(call: Call, sources: dict[Any, int], brought: Callable[[int, int], Any]) -> Call:
    """The call as it travels: values in Ray's store are named by their place among `sources`, which are sent beside."""
    if not any(isinstance(source.handle, Kept) for source in call.inputs.values()):
        return call
    inputs: dict[int, Input] = {}
    for node, source in call.inputs.items():
        if isinstance(source.handle, Kept):
            place = sources.setdefault(source.handle.ref, len(sources))
            inputs[node] = replace(source, handle=brought(place, source.handle.index))
        else:
            inputs[node] = source
    return replace(call, inputs=inputs)


def all_of(bundle: Bundle, kind: OutcomeKind, failure: Failure | None = None) -> list[Outcome]:
    return [Outcome(call.node, call.attempt, kind, failure=failure) for call in bundle.calls]


def all_failed(bundle: Bundle, failure: Failure) -> list[Outcome]:
    """The bundle could not be read, or its outcomes could not: if it is of several calls, each is tried by itself."""
    return all_of(bundle, "failed" if len(bundle.calls) == 1 else "worker_lost", failure)
