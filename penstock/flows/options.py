"""The options of flows, checked when they are set."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from penstock.errors import ConfigurationError
from penstock.graph.tasks import Delays, check_kinds, check_retries, checked_tags, no_such_option
from penstock.storage.stores.given import storage_of

if TYPE_CHECKING:
    from penstock.runners.base import Runner

Choice: TypeAlias = "Runner | str | Callable[[int], Runner | str] | None"
"""Where a flow runs. A function receives the number of the attempt, starting at 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowOptions:
    """The options of `@flow`. None leaves a decision to the settings."""

    name: str | None = None
    runner: Choice = None
    """A runner, an address such as `threads?workers=8`, or a function that returns either for an attempt."""
    persist_result: bool | None = None
    """Whether to store the results of all tasks, so that a failed or killed run can be resumed."""
    refresh_cache: bool = False
    """Whether to run every task even if a result exists."""
    result_storage: Any = None
    """The store of this flow: an address, a path or a store."""
    retries: int = 0
    """How many times to retry the whole flow. Published results are reused."""
    retry_delay_seconds: Delays = 0.0
    """The wait before each retry, in seconds."""
    log_prints: bool | None = None
    """Whether to send what the flow and its tasks print to their loggers."""
    tags: frozenset[str] = frozenset()
    """Labels of the run."""

    def merged(self, changes: Mapping[str, Any]) -> FlowOptions:
        """Return a copy with some options replaced. Raises `ConfigurationError` for an unknown or invalid option."""
        known = {f.name for f in fields(self)}
        for name in changes:
            if name not in known:
                raise no_such_option("flows", name, (*known, "task_runner"))
        merged = replace(self, **changes)
        check_kinds(merged)
        check_retries(merged.retries, merged.retry_delay_seconds)
        return merged


def flow_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the options that users write to those of `FlowOptions`."""
    without_effect = ("description", "version", "cache_result_in_memory")
    options = {name: value for name, value in given.items() if name not in without_effect}
    if "task_runner" in options:
        options["runner"] = options.pop("task_runner")
    if "tags" in options:
        options["tags"] = checked_tags(options["tags"])
    if "result_storage" in options:
        options["result_storage"] = storage_of(options["result_storage"])
    return options


def check_flow(fn: Any) -> None:
    """Raise `ConfigurationError` if `fn` cannot be a flow."""
    if not callable(fn):
        raise ConfigurationError(
            f"{fn!r} cannot be a flow",
            because=f"a {type(fn).__name__} cannot be called",
            hint="put @flow above the `def` of a function",
        )
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ConfigurationError(
            f"{fn.__name__} cannot be a flow",
            because="it is a generator, so its body would run after the run has ended",
            hint="return a list, or yield in a task: tasks may be generators",
        )
