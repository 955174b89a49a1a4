"""The interface of runners.

The driver submits **bundles** of calls to an engine and receives one outcome per call. A runner only turns bundles into
tasks of its engine and reports their outcomes. `penstock.worker.execution` implements the calls themselves for all
runners, and the driver handles order, retries, delays, locks, caching and events. Implementations are verified by
`penstock.testing.runners.RunnerTests`.

    Runner (settings, may be pickled)  --open(context, report)-->  Engine (live workers)
    Engine.submit(bundle) ... report(Started(bundle)) ... report(Finished(bundle, outcomes))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

from penstock.errors import ConfigurationError
from penstock.storage.stores.base import Reach
from penstock.worker.messages import Bundle, Preparation, Report, ShippedTask, WorkerContext


def checked_setup(given: Any) -> Preparation | None:
    """Return a `worker_setup=` argument unchanged. Raises `ConfigurationError` if it cannot be called."""
    if given is not None and not callable(given):
        raise ConfigurationError(
            f"worker_setup cannot be {given!r}",
            because="it cannot be called",
            hint="pass a function without parameters",
        )
    setup: Preparation | None = given
    return setup


@runtime_checkable
class Engine(Protocol):
    """The running workers of one run.

    All methods except `fetch` are called from the driver's thread only. They must not block for long.
    """

    @property
    def capacity(self) -> Mapping[str, float]:
        """The resources of all workers together, in canonical units.

        `slots` is the number of places for bundles: how many may be submitted at a time. If some of these wait at the
        workers, `workers` is the number that run at a time.
        """
        ...

    def register(self, shipped_task: ShippedTask) -> None:
        """Register a task before its first call. Raises `SerializationError` if it cannot be sent to workers."""
        ...

    def submit(self, bundle: Bundle) -> None:
        """Start a bundle as soon as a worker is free.

        Exactly one `Finished` is reported for it, with an outcome for each call, whatever happens.

        Raises:
            SerializationError: The bundle cannot be sent. Nothing of it runs then.
        """
        ...

    def cancel(self, bundle: int) -> None:
        """Stop a bundle, by force if the engine can. The driver ignores later reports about it."""
        ...

    def fetch(self, handle: Any) -> Any:
        """Return the value of a handle as a private copy. May be called from any thread.

        Raises:
            DamagedResult: The engine has lost the value.
        """
        ...

    def release(self, handles: Iterable[Any]) -> None:
        """Release values that are no longer needed."""
        ...

    def close(self) -> None:
        """Stop the workers. Running calls are cancelled."""
        ...


@runtime_checkable
class HoldsBack(Protocol):
    """An engine that accepts calls before their inputs are computed, and holds them back until then."""

    @property
    def held_back(self) -> int:
        """How many bundles may be submitted in addition to those that can run."""
        ...

    def promise(self, bundle: int, node: int) -> Any:
        """Return a handle, for other calls only, to the future value of a call that was submitted as `promised`.

        If that call gives no value, the outcome of calls with this handle is `not_started`.
        """
        ...


@runtime_checkable
class Runner(Protocol):
    """The settings of where flows run. Opens an engine for each run; `runner(flow)` binds a flow to it."""

    @property
    def reach(self) -> Reach:
        """How far its workers are spread: this process, this machine or the network. Locks and stores must cover it."""
        ...

    def open(self, context: WorkerContext, report: Report) -> Engine:
        """Open an engine for one run.

        Args:
            context: What all calls of the run share.
            report: To be called with `Started`, `Waits` and `Finished`, from any thread.

        Raises:
            RunnerError: There are no workers.
        """
        ...


class _HasOptions(Protocol):
    def with_options(self, *, runner: Any) -> Any: ...


F = TypeVar("F", bound=_HasOptions)


class BindsFlows:
    """A mixin for runners: calling one with a flow returns the flow bound to the runner."""

    def __enter__(self) -> Self:
        """Keep reusable parts of the runner, if it has any, from one run to the next during the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the reusable parts."""

    def __call__(self, flow: F) -> F:
        bound: F = flow.with_options(runner=self)
        return bound
