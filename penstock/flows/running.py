"""What running a flow takes beyond its definition: the environment, the frame, and the attempts or the preview."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from penstock import events
from penstock.environments import Environment
from penstock.flows.attempts import JoinedAttempts, RunAttempts, Runnable
from penstock.graph.arguments import futures_to_wait_for
from penstock.graph.plans import Plan
from penstock.graph.tracing import FlowFrame, Trace
from penstock.journals.journal import read_record
from penstock.journals.parameters import read_parameters
from penstock.runs import key_context, new_run_id
from penstock.runtime import FlowRunInfo, in_flow_run
from penstock.settings import Settings, current_settings


def run_attempts(
    flow: Runnable,
    parameters: dict[str, Any],
    settings: Settings | None,
    run_id: str | None,
    subscribers: Iterable[Callable[[events.Event], None]],
) -> RunAttempts:
    """Return the attempts of a run of its own. `settings` are by default those of the process."""

    def frame(run_id: str, salt: Callable[[], bytes] | None) -> FlowFrame:
        return _frame(flow, run_id, parameters, salt)

    return RunAttempts(flow, parameters, _environment(flow, settings), run_id, subscribers, frame)


def joined_attempts(
    flow: Runnable, trace: Trace, parameters: Mapping[str, Any], wait_for: Iterable[Any]
) -> JoinedAttempts:
    """Return the attempts of a flow that joins the graph of the one that calls it."""
    return JoinedAttempts(flow.options, trace, lambda: _frame_inside(flow, trace, parameters, wait_for))


def preview_of(
    flow: Runnable,
    call: Callable[[], Any],
    parameters: Mapping[str, Any],
    settings: Settings | None = None,
    *,
    look_up: bool,
) -> Plan:
    """Return the plan of a flow, whose function `call` calls. Without `look_up`, only its graph is complete."""
    environment = _environment(flow, settings)
    info = FlowRunInfo(id=new_run_id(), flow_name=flow.name, run_count=1, parameters=parameters)
    frame = _frame(flow, info.id, parameters, environment.salt(make=False))
    with in_flow_run(info):
        from penstock.previews import preview  # a run needs none of it

        return preview(call, frame, environment, look_up=look_up)


def parameters_of(
    flow: Runnable, run_id: str, given: Mapping[str, Any] | None, settings: Settings | None
) -> dict[str, Any]:
    """Return the parameters of an earlier run, as `Flow.resume` describes."""
    environment = _environment(flow, settings)
    store = environment.results().store
    return read_parameters(store, read_record(store, run_id), environment.signatures(), given=given)


def _environment(flow: Runnable, settings: Settings | None) -> Environment:
    settings, storage = settings or current_settings(), flow.options.result_storage
    if storage is None:
        return Environment(settings)
    if isinstance(storage, str | os.PathLike):
        return Environment(settings.with_values(store=os.fspath(storage)))
    return Environment(settings.with_values(store=storage.url), store=storage)


def _frame(flow: Runnable, run_id: str, parameters: Mapping[str, Any], salt: Callable[[], bytes] | None) -> FlowFrame:
    """Return what calls of tasks in the flow need to know about it."""
    options = flow.options
    return FlowFrame(
        flow.name,
        key_context(run_id, flow.name, parameters, salt),
        flow.fn,
        persist_result=options.persist_result,
        refresh_cache=options.refresh_cache,
        log_prints=options.log_prints,
        is_async=flow.is_async,
    )


def _frame_inside(flow: Runnable, trace: Trace, parameters: Mapping[str, Any], wait_for: Iterable[Any]) -> FlowFrame:
    outer, options = trace.frame, flow.options
    frame = _frame(flow, outer.context.run_id, parameters, outer.context.salt)
    frame.wait_for = (*outer.wait_for, *futures_to_wait_for(wait_for, flow.name))
    if frame.persist_result is None:
        frame.persist_result = outer.persist_result
    if frame.log_prints is None:
        frame.log_prints = outer.log_prints
    frame.result_storage = outer.result_storage if options.result_storage is None else options.result_storage
    frame.refresh_cache = frame.refresh_cache or outer.refresh_cache
    frame.transaction = outer.transaction
    return frame
