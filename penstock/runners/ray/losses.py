"""What Ray's errors mean for the calls of a bundle: what was lost with a process or a machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ray import exceptions

from penstock.runners.ray.in_flight import InFlight, Kept
from penstock.worker.messages import NO_GENERATION, Failure, Outcome, OutcomeKind

_LOSSES = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.ObjectLostError,  # of the outcomes themselves: their machine died just after it made them
)


def lost_among(sources: Iterable[Any], cause: BaseException) -> set[Any]:
    """The value among those that a bundle was given whose loss is the cause; empty if that is another one."""
    if not isinstance(cause, exceptions.ObjectLostError):
        return set()
    return {source for source in sources if source.hex() == cause.object_ref_hex}


def why_lost(cause: BaseException) -> Failure | None:
    """Why the calls were lost; None if Ray failed to run them for another reason."""
    if isinstance(cause, exceptions.TaskCancelledError):
        return Failure("WorkerLost", "it was cancelled from outside of the run", "")
    if isinstance(cause, exceptions.OutOfMemoryError):
        return Failure("OutOfMemory", "Ray stopped it because its machine ran out of memory", str(cause))
    if isinstance(cause, _LOSSES):
        return Failure("WorkerLost", str(cause).strip().partition("\n")[0], str(cause))
    return None


def without(flight: InFlight, lost: set[Any]) -> list[Outcome]:
    """Outcomes of a bundle that did not run because values it was given are lost: they are loaded from the store
    instead, or have to be made again."""
    outcomes = []
    for call in flight.bundle.calls:
        gone = {n: i for n, i in call.inputs.items() if isinstance(i.handle, Kept) and i.handle.ref in lost}
        for source in gone.values():
            source.handle = None
        unstored = {node: NO_GENERATION for node, source in gone.items() if source.record is None}
        kind: OutcomeKind = "input_lost" if unstored else "not_started"
        outcomes.append(Outcome(call.node, call.attempt, kind, lost=unstored))
    return outcomes
