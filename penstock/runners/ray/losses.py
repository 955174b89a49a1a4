"""Translate Ray's errors into the loss of workers or values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ray import exceptions

from penstock.worker.messages import Failure

_LOSSES = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.ObjectLostError,  # of the outcomes: their machine died just after it created them
)


def lost_among(sources: Iterable[Any], cause: BaseException) -> set[Any]:
    """Return the input of a bundle whose loss is the cause; empty if the cause is another one."""
    if not isinstance(cause, exceptions.ObjectLostError):
        return set()
    return {source for source in sources if source.hex() == cause.object_ref_hex}


def why_lost(cause: BaseException) -> Failure | None:
    """Return why calls were lost; None if Ray failed to run them for another reason."""
    if isinstance(cause, exceptions.TaskCancelledError):
        return Failure("WorkerLost", "it was cancelled from outside of the run", "")
    if isinstance(cause, exceptions.OutOfMemoryError):
        return Failure("OutOfMemory", "Ray stopped it because its machine ran out of memory", str(cause))
    if isinstance(cause, _LOSSES):
        return Failure("WorkerLost", str(cause).strip().partition("\n")[0], str(cause))
    return None
