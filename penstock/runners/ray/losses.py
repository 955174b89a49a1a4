"""What Ray's errors mean for the calls of a bundle: what was lost with a process or a machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ray import exceptions

from penstock.worker.messages import Failure

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
