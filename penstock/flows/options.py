"""What `@flow` takes: options of flows, checked when they are given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from penstock.environments import storage_of
from penstock.errors import ConfigurationError
from penstock.graph.tasks import Delays, check_retries
from penstock.runners.base import Runner

Choice = Runner | str | Callable[[int], Runner | str] | None
"""Of where a flow runs. A function is called with the number of the attempt, from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowOptions:
    """How a flow runs. `None`: not said here, so the settings decide."""

    name: str | None = None
    runner: Choice = None
    """Where it runs: a runner, an address such as `threads?workers=8`, or a function that gives one for the attempt."""
    persist_result: bool | None = None
    """Keep the results of all its tasks, so that a failed or killed run can be resumed."""
    refresh_cache: bool = False
    """Run every task even if there is a result."""
    result_storage: Any = None
    """The store of this flow, as an address or a path."""
    retries: int = 0
    """How often the whole flow is tried again; finished tasks with a key are hits then."""
    retry_delay_seconds: Delays = 0.0
    log_prints: bool | None = None
    """Send what its tasks print to the log."""
    tags: frozenset[str] = frozenset()

    def merged(self, changes: Mapping[str, Any]) -> FlowOptions:
        """A copy with some options replaced; an unknown name is a `ConfigurationError`."""
        known = {f.name for f in fields(self)}
        for name in changes:
            if name not in known:
                raise ConfigurationError(
                    f"a flow has no option {name!r}", hint=f"the options are {', '.join(sorted(known))}"
                )
        merged = replace(self, **changes)
        check_retries(merged.retries, merged.retry_delay_seconds)
        return merged


def flow_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options as `FlowOptions` keeps them, from what users write."""
    without_effect = ("description", "version", "cache_result_in_memory")
    options = {name: value for name, value in given.items() if name not in without_effect}
    if "task_runner" in options:
        options["runner"] = options.pop("task_runner")
    if "tags" in options:
        options["tags"] = frozenset(options["tags"] or ())
    if "result_storage" in options:
        options["result_storage"] = storage_of(options["result_storage"])
    return options


def check_flow(fn: Any) -> None:
    """Raises `ConfigurationError` for what cannot be a flow."""
    if not callable(fn):
        raise ConfigurationError(f"{fn!r} cannot be a flow", because=f"a {type(fn).__name__} cannot be called")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ConfigurationError(
            f"{fn.__name__} cannot be a flow",
            because="it is a generator: its body would run after the run, whenever somebody takes an item",
            hint="return a list, or yield from a task: that may be a generator",
        )


def chosen(runner: Choice, count: int) -> Runner | str | None:
    """The runner of an attempt. Runners can be called too: with a flow, to bind it."""
    if callable(runner) and not isinstance(runner, Runner):
        return runner(count)
    return runner
