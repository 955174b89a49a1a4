"""What a runner must do: the one interface file of runners, read top to bottom.

The driver hands an engine **bundles** of calls and gets back one outcome per call. A runner only turns bundles into
whatever its engine runs and reports what came of them; what happens inside a call is `penstock.worker.execution`, the
same everywhere. Order, retries, delays, locks, caching and events belong to the driver and exist once.

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
    """What was given as `worker_setup=`; raises `ConfigurationError` if it cannot be called."""
    if given is not None and not callable(given):
        raise ConfigurationError(
            f"worker_setup={given!r}", because="it cannot be called", hint="give a function without parameters"
        )
    setup: Preparation | None = given
    return setup


@runtime_checkable
class Engine(Protocol):
    """Live workers of one run. Methods are called from the driver's thread only and must not block for long."""

    @property
    def capacity(self) -> Mapping[str, float]:
        """What all workers together have, resources in canonical units, and `slots`: how many bundles they take at a
        time. If that is more than run at a time, because some wait at the workers, `workers` says how many run."""
        ...

    def register(self, shipped_task: ShippedTask) -> None:
        """Make a task known before its first call. Raises `RunnerError` if it cannot be shipped."""
        ...

    def submit(self, bundle: Bundle) -> None:
        """Start it as soon as a worker is free. Its end is reported exactly once, whatever happens."""
        ...

    def cancel(self, bundle: int) -> None:
        """Stop it, by force where the engine can. A report that comes later is ignored by the driver."""
        ...

    def fetch(self, handle: Any) -> Any:
        """The value behind a handle, brought to the driver as one that no call has. May be called from any thread.

        Raises `DamagedResult` if the engine lost it.
        """
        ...

    def release(self, handles: Iterable[Any]) -> None:
        """Values nobody will ask for again."""
        ...

    def close(self) -> None:
        """Stop the workers. Running calls are cancelled."""
        ...


@runtime_checkable
class HoldsBack(Protocol):
    """An engine that may be given calls before their inputs are made, and holds them back until then."""

    @property
    def held_back(self) -> int:
        """So many bundles may be under way besides those that could run."""
        ...

    def promise(self, bundle: int, node: int) -> Any:
        """A handle, for other calls only, to what a call will make that was submitted as `promised`.

        If nothing comes of that call, those that were given the handle are `not_started`.
        """
        ...


@runtime_checkable
class Runner(Protocol):
    """Where a flow runs: settings that open an engine for each run. `runner(flow)` binds a flow to it."""

    @property
    def reach(self) -> Reach:
        """How far away its workers are: locks and stores have to reach as far."""
        ...

    def open(self, context: WorkerContext, report: Report) -> Engine:
        """Live workers for one run. Raises `RunnerError` if there are none to be had."""
        ...


class _HasOptions(Protocol):
    def with_options(self, *, runner: Any) -> Any: ...


F = TypeVar("F", bound=_HasOptions)


class BindsFlows:
    """Mixin of runners: calling one with a flow gives the same flow, bound to the runner."""

    def __enter__(self) -> Self:
        """Runners with something to keep from one run to the next keep it in this block."""
        return self

    def __exit__(self, *_: object) -> None:
        """What was kept is let go."""

    def __call__(self, flow: F) -> F:
        bound: F = flow.with_options(runner=self)
        return bound
