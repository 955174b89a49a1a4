"""What becomes of bundles that Dask did not finish, and what its scheduler says of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from penstock.errors import RunnerError, is_a
from penstock.runners.dask.graphs import InFlight
from penstock.runners.dask.worker import Promised
from penstock.worker.messages import Bundle, Failure, Outcome, OutcomeKind


def scheduler_info(client: Any) -> dict[str, Any]:
    """What the scheduler says of itself and all its workers."""
    every = {"n_workers": -1} if "n_workers" in inspect.signature(client.scheduler_info).parameters else {}
    info: dict[str, Any] = client.scheduler_info(**every)
    return info


def error_told(error: BaseException | None) -> BaseException:
    """What a Dask task failed with that never came as far as to a call of ours."""
    if is_a(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in ("penstock", "cloudpickle"):
        return RunnerError(
            "a Dask worker cannot import Penstock",
            because=str(error),
            hint="install the same Python and Penstock everywhere",
        )
    return RunnerError(
        "Dask could not run a bundle of calls",
        because=f"{type(error).__name__}: {error}",
        hint="the logs of the scheduler and of its workers tell more",
    )


def outcomes_of_all(bundle: Bundle, kind: OutcomeKind, failure: Failure | None = None) -> list[Outcome]:
    """The same for all calls of a bundle."""
    return [Outcome(call.node, call.attempt, kind, failure=failure) for call in bundle.calls]


def given_back(bundle: Bundle, lost: Mapping[int, Mapping[int, int]]) -> list[Outcome]:
    """Outcomes of a bundle that cannot run because inputs of some calls are lost, by node."""
    return [
        Outcome(c.node, c.attempt, "input_lost", lost=lost[c.node])
        if lost.get(c.node)
        else Outcome(c.node, c.attempt, "not_started")
        for c in bundle.calls
    ]


def promised_to(flight: InFlight) -> list[Promised]:
    """What other bundles were promised to make for it."""
    sources = (source for call in flight.bundle.calls for source in call.inputs.values())
    return [source.handle for source in sources if isinstance(source.handle, Promised)]
