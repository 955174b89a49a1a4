"""Tasks called outside of flows: each call is a run of one node."""

from __future__ import annotations

import contextlib
import contextvars
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from penstock.active_runs import ActiveRun, active_run
from penstock.coroutines import named
from penstock.environments import Environment
from penstock.graph.tasks import TaskDefinition
from penstock.graph.tracing import FlowFrame, tracing
from penstock.journals.journal import Journal
from penstock.runners.local.threads import ThreadRunner
from penstock.runs import Run, key_context, new_run_id
from penstock.runtime import TaskRunInfo, current_flow_run, in_task_run
from penstock.settings import current_settings


def call_now(definition: TaskDefinition, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run a task outside of a flow, with the same lookup, locks, retries and record as in a flow.

    Returns the value, or a coroutine of it if the function is async. A generator yields its items as they are produced
    if its task has no key, retries, timeout, log_prints or tags.
    """
    if definition.is_async:
        return named(_in_thread(definition, args, kwargs), definition.name)
    if not _streams(definition):
        return _run(_active(definition), definition, args, kwargs)
    arguments = definition.binding.bind(definition, args, kwargs)
    style = definition.binding.style(args, kwargs)

    def items() -> Any:
        return definition.binding.call(definition.fn, arguments, style)

    if inspect.isasyncgenfunction(definition.fn):
        return items() if _passes_on(definition) else _items_of(definition, args, kwargs)
    if _passes_on(definition):
        return _each(definition, items, arguments)
    return _run(_active(definition), definition, args, kwargs)


def _streams(definition: TaskDefinition) -> bool:
    return inspect.isgeneratorfunction(definition.fn) or inspect.isasyncgenfunction(definition.fn)


def _passes_on(definition: TaskDefinition) -> bool:
    options = definition.options
    plain = definition.policy(persist_by_default=None) is None
    return plain and not (options.retries or options.timeout_seconds or options.log_prints or options.tags)


def _each(definition: TaskDefinition, items: Callable[[], Any], arguments: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the items of a generator that runs in its own context, so that its context variables do not leak."""
    run = contextvars.copy_context().run
    info = TaskRunInfo(name=definition.name, task_name=definition.name, run_count=1, parameters=arguments)
    inside = contextlib.ExitStack()
    run(inside.enter_context, in_task_run(info))
    run(inside.enter_context, tracing(None))
    source = run(items)
    try:
        while True:
            try:
                item = run(next, source)
            except StopIteration:
                return
            yield item
    finally:
        run(source.close)
        run(inside.close)


async def _items_of(definition: TaskDefinition, args: Sequence[Any], kwargs: Mapping[str, Any]) -> AsyncIterator[Any]:
    for item in await _in_thread(definition, args, kwargs):
        yield item


async def _in_thread(definition: TaskDefinition, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    import asyncio  # slow to import, and only needed by async functions

    active = _active(definition)
    try:
        return await asyncio.to_thread(_run, active, definition, args, kwargs)
    except asyncio.CancelledError:
        active.driver.cancel()
        raise


def _active(definition: TaskDefinition) -> ActiveRun:
    run: Run[Any] = Run(new_run_id(), definition.name, {})
    environment = Environment(current_settings())
    info = current_flow_run()  # the run around it, if it is called inside a task
    frame = FlowFrame(
        definition.name, key_context(info.id or run.id, info.flow_name or None, info.parameters, environment.salt())
    )
    return ActiveRun(
        run, environment, runner=ThreadRunner(1), info=info, frame=frame, journal=Journal(None, None, environment.clock)
    )


def _run(active: ActiveRun, definition: TaskDefinition, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    with active_run(active):
        active.run._value = active.finish(active.trace.call(definition, args, kwargs))
    return active.run.result()
