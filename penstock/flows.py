"""`@flow`: a function whose task calls become a graph, run on Dask, Ray or this machine."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import os
import random
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

import msgspec

from penstock import events
from penstock.environments import Environment
from penstock.errors import ConfigurationError
from penstock.graph.capture import replace_futures
from penstock.graph.graphs import Graph
from penstock.graph.plans import Plan
from penstock.graph.signatures import Signature
from penstock.graph.sources import importable_name
from penstock.graph.tasks import Delays, TaskOptions, check_retries
from penstock.graph.tracing import FlowFrame, Trace, current_trace
from penstock.journals import Journal, RunRecord, new_record, read_record
from penstock.kept_parameters import KeptParameters, pickle_parameters, read_parameters
from penstock.previews import preview
from penstock.runners.base import Runner
from penstock.runners.calls import run_coroutine
from penstock.runners.printing import printing_to_log
from penstock.runners.retries import delay_before
from penstock.runs import Live, Run, key_context, live_run, new_run_id
from penstock.runtime import FlowRunInfo, in_attempt, in_flow_run
from penstock.secrets import Redactor
from penstock.settings import Settings, current_settings

P = ParamSpec("P")
R = TypeVar("R")
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


class Flow(Generic[P, R]):
    """A flow function with its options. Made by `@flow`."""

    def __init__(self, fn: Callable[..., Any], options: FlowOptions) -> None:
        self.fn = fn
        self.options = options
        self.signature = Signature(fn)
        self.is_async = inspect.iscoroutinefunction(fn)
        functools.update_wrapper(self, fn)

    @property
    def name(self) -> str:
        return self.options.name or self.fn.__name__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the flow and return what its function returned, with all futures in it as values.

        Raises the first failure that the flow function did not handle itself. Called inside another flow it joins that
        flow's graph, unless it is bound to a runner: then it is a run of its own. With `retries`, either way, its call
        waits for all its tasks, to know whether it has to be tried again.
        """
        parameters = self.signature.bind(self.name, args, kwargs)
        trace = current_trace()
        if trace is not None and self.options.runner is None:
            return cast(R, self._join(trace, parameters))
        if self.is_async:
            return cast(R, self._run_async(parameters))
        return self._run(_resolved(parameters), current_settings(), None).result()

    def run(self, *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """As a call, but returns the `Run`: its state, counts, graph, and `result()` which raises if it failed."""
        return self.run_with(self.signature.bind(self.name, args, kwargs))

    def run_with(
        self,
        parameters: Mapping[str, Any],
        *,
        settings: Settings | None = None,
        subscribers: Iterable[Callable[[events.Event], None]] = (),
        run_id: str | None = None,
    ) -> Run[R]:
        """`run` with parameters by name, settings of its own, and callbacks for each event as it happens."""
        settings = settings or current_settings()
        if self.is_async:
            attempts = self._run_attempts(dict(parameters), settings, run_id, tuple(subscribers))
            return cast(Run[R], run_coroutine(attempts))
        return self._run(dict(parameters), settings, run_id, tuple(subscribers))

    def resume(
        self,
        run_id: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        settings: Settings | None = None,
        subscribers: Iterable[Callable[[events.Event], None]] = (),
    ) -> Run[R]:
        """Continue a failed or killed run: same id and parameters, so whatever it finished and recorded is a hit.

        `parameters` are those that are secret, by name: they were not kept. Raises `StoreError` if there is no such
        run, `ParameterError` if its other parameters were not kept or may not be read here, or if one is missing, and
        `SignatureRefused` if its record was changed.
        """
        settings = settings or current_settings()
        environment = Environment(self._settings(settings))
        store = environment.results().store
        record = read_record(store, run_id)
        whole = read_parameters(store, record, environment.signatures(), given=parameters)
        return self.run_with(whole, settings=settings, subscribers=subscribers, run_id=run_id)

    def plan(self, *args: P.args, **kwargs: P.kwargs) -> Plan:
        """What a run would do: every key looked up, nothing run. Goes on through sync points whose value is cached."""
        return self.plan_with(self.signature.bind(self.name, args, kwargs))

    def plan_with(self, parameters: Mapping[str, Any], *, settings: Settings | None = None) -> Plan:
        """`plan` with parameters by name and settings of its own."""
        environment = Environment(self._settings(settings or current_settings()))
        info = FlowRunInfo(id=new_run_id(), flow_name=self.name, run_count=1, parameters=parameters)
        frame = self._frame(info.id, parameters, environment.salt(make=False))
        with in_flow_run(info):
            return preview(lambda: self._call_to_end(parameters), frame, environment, look_up=True)

    def trace(self, *args: P.args, **kwargs: P.kwargs) -> Graph:
        """The graph up to the first sync point, nothing looked up; `graph.stopped_at` says where that is."""
        parameters = self.signature.bind(self.name, args, kwargs)
        info = FlowRunInfo(id=new_run_id(), flow_name=self.name, run_count=1, parameters=parameters)
        environment = Environment(self._settings(current_settings()))
        frame = self._frame(info.id, parameters, environment.salt(make=False))
        with in_flow_run(info):
            return preview(lambda: self._call_to_end(parameters), frame, environment, look_up=False).graph

    def with_options(self, **changes: Any) -> Flow[P, R]:
        """The same function with some options replaced; takes what `@flow` takes."""
        return Flow(self.fn, self.options.merged(_options(changes)))

    def __repr__(self) -> str:
        return f"Flow({self.name})"

    # -- inside -------------------------------------------------------------------------------------------------------

    def _settings(self, settings: Settings) -> Settings:
        if self.options.result_storage is None:
            return settings
        return settings.with_values(store=os.fspath(self.options.result_storage))

    def _frame(self, run_id: str, parameters: Mapping[str, Any], salt: Callable[[], bytes] | None) -> FlowFrame:
        return FlowFrame(
            self.name,
            key_context(run_id, self.name, parameters, salt),
            persist_result=self.options.persist_result,
            refresh_cache=self.options.refresh_cache,
            log_prints=self.options.log_prints,
        )

    def _printing(self, enabled: bool | None) -> AbstractContextManager[None]:
        return printing_to_log(self.name, enabled=enabled, kind="flow_runs")

    def _call_to_end(self, parameters: Mapping[str, Any]) -> Any:
        value = self.signature.call(self.fn, parameters)
        return run_coroutine(value) if inspect.iscoroutine(value) else value

    def _join(self, trace: Trace, parameters: Mapping[str, Any]) -> Any:
        if self.is_async:
            return self._join_async(trace, parameters)
        for attempt in itertools.count(1):
            frame, before = self._frame_inside(trace, parameters), len(trace.graph)
            failure: BaseException | None = None
            with trace.inside(frame), self._printing(frame.log_prints), self._attempt(attempt):
                try:
                    value = self.signature.call(self.fn, parameters)
                except Exception as error:
                    if attempt > self.options.retries:
                        raise
                    failure = error
            failure = self._failure_of(trace, frame, before) or failure
            if failure is None:
                return value
            time.sleep(self._delay_or_raise(attempt, failure))

    async def _join_async(self, trace: Trace, parameters: Mapping[str, Any]) -> Any:
        import asyncio  # the time it takes to import is for async flows

        for attempt in itertools.count(1):
            frame, before = self._frame_inside(trace, parameters), len(trace.graph)
            failure: BaseException | None = None
            with trace.inside(frame), self._printing(frame.log_prints), self._attempt(attempt):
                try:
                    value = await self.signature.call(self.fn, parameters)
                except Exception as error:
                    if attempt > self.options.retries:
                        raise
                    failure = error
            failure = self._failure_of(trace, frame, before) or failure
            if failure is None:
                return value
            await asyncio.sleep(self._delay_or_raise(attempt, failure))

    def _attempt(self, count: int) -> AbstractContextManager[None]:
        return in_attempt(count) if self.options.retries else contextlib.nullcontext()

    def _failure_of(self, trace: Trace, frame: FlowFrame, before: int) -> BaseException | None:
        """What failed in an attempt of a joined flow. One without retries need not wait to know."""
        return trace.failure_inside(frame, before) if self.options.retries else None

    def _delay_or_raise(self, attempt: int, failure: BaseException) -> float:
        """Seconds until the next attempt; raises the failure of the last one."""
        if attempt > self.options.retries:
            raise failure
        return self._delay(attempt)

    def _delay(self, attempt: int) -> float:
        options = self.options
        delays = TaskOptions(retries=options.retries, retry_delay_seconds=options.retry_delay_seconds)
        return delay_before(delays, attempt, random.Random())

    def _frame_inside(self, trace: Trace, parameters: Mapping[str, Any]) -> FlowFrame:
        outer = trace.frame
        frame = self._frame(outer.context.run_id, parameters, outer.context.salt)
        if frame.persist_result is None:
            frame.persist_result = outer.persist_result
        if frame.log_prints is None:
            frame.log_prints = outer.log_prints
        frame.result_storage = (
            outer.result_storage if self.options.result_storage is None else self.options.result_storage
        )
        frame.refresh_cache = frame.refresh_cache or outer.refresh_cache
        return frame

    async def _run_async(self, parameters: Mapping[str, Any]) -> R:
        run = await self._run_attempts(_resolved(parameters), current_settings(), None, ())
        return run.result()

    def _run(
        self,
        parameters: dict[str, Any],
        settings: Settings,
        run_id: str | None,
        subscribers: Sequence[Callable[[events.Event], None]] = (),
    ) -> Run[R]:
        attempts = _Attempts(self, parameters, self._settings(settings), run_id, subscribers)
        while True:
            live = attempts.begin()
            with live_run(live), self._printing(self.options.log_prints):
                live.run._value = live.finish(self.signature.call(self.fn, parameters))
            delay = attempts.delay_before_next(live.run)
            if delay is None:
                return live.run
            time.sleep(delay)

    async def _run_attempts(
        self,
        parameters: dict[str, Any],
        settings: Settings,
        run_id: str | None,
        subscribers: Sequence[Callable[[events.Event], None]],
    ) -> Run[R]:
        import asyncio  # the time it takes to import is for async flows

        attempts = _Attempts(self, parameters, self._settings(settings), run_id, subscribers)
        while True:
            live = attempts.begin()
            with live_run(live), self._printing(self.options.log_prints):
                returned = await self.signature.call(self.fn, parameters)
                live.run._value = await asyncio.to_thread(live.finish, returned)
            delay = attempts.delay_before_next(live.run)
            if delay is None:
                return live.run
            await asyncio.sleep(delay)


class _Attempts:
    """The attempts of one run of a flow: same id and record, a new graph each time."""

    def __init__(
        self,
        flow: Flow[Any, Any],
        parameters: dict[str, Any],
        settings: Settings,
        run_id: str | None,
        subscribers: Sequence[Callable[[events.Event], None]],
    ) -> None:
        self.flow = flow
        self.parameters = parameters
        self.environment = Environment(settings)
        self.subscribers = tuple(subscribers)
        self.count = 0
        self.kept: KeptParameters | None = None
        self.redact = Redactor(parameters)
        self.record = self._record(run_id)

    def _record(self, run_id: str | None) -> RunRecord:
        if run_id is not None:
            record = read_record(self.environment.results().store, run_id)
            return msgspec.structs.replace(record, attempts=record.attempts + 1, state="running", error="")
        signatures = self.environment.signatures()
        name, entry = self.flow.name, entry_of(self.flow.fn)
        self.kept = pickle_parameters(self.parameters)
        return new_record(new_run_id(), name, entry, self.parameters, kept=self.kept, signatures=signatures)

    def begin(self) -> Live:
        self.count += 1
        flow, record = self.flow, self.record
        run: Run[Any] = Run(record.id, flow.name, self.parameters)
        info = FlowRunInfo(
            id=record.id,
            name=record.id,
            flow_name=flow.name,
            run_count=self.count,
            parameters=self.parameters,
            tags=tuple(sorted(flow.options.tags)),
        )
        store, kept, self.kept = (
            self.environment.results().store,
            self.kept,
            None,
        )  # kept once, whatever attempts follow
        journal = Journal(record, store, self.environment.clock, self.subscribers, parameters=kept, redact=self.redact)
        with in_flow_run(info):
            runner = self.environment.runner(_chosen(flow.options.runner, self.count))
        frame = flow._frame(record.id, self.parameters, self.environment.salt())
        return Live(run, self.environment, runner=runner, info=info, frame=frame, journal=journal)

    def delay_before_next(self, run: Run[Any]) -> float | None:
        """Seconds until the next attempt, or None if there is none."""
        if run.state != "failed" or self.count > self.flow.options.retries:
            return None
        return self.flow._delay(self.count)


def _chosen(runner: Choice, count: int) -> Runner | str | None:
    """The runner of an attempt. Runners can be called too: with a flow, to bind it."""
    if callable(runner) and not isinstance(runner, Runner):
        return runner(count)
    return runner


def _resolved(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a run of its own: futures of the surrounding flow are waited for."""
    return {name: replace_futures(value, lambda future: future.result()) for name, value in parameters.items()}


def entry_of(fn: Callable[..., Any]) -> str:
    """Where a flow is imported from, as the command line writes it."""
    module, qualname = importable_name(fn)
    source = getattr(sys.modules.get(fn.__module__), "__file__", None)
    if source is not None and (fn.__module__ == "__main__" or "." not in module):
        return f"{os.path.abspath(source)}:{qualname}"
    return f"{module}:{qualname}"


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options as `FlowOptions` keeps them, from what users write."""
    options = {name: value for name, value in given.items() if name not in ("description", "version")}
    if "task_runner" in options:
        options["runner"] = options.pop("task_runner")
    if "tags" in options:
        options["tags"] = frozenset(options["tags"] or ())
    return options


@overload
def flow(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Flow[P, Coroutine[Any, Any, R]]: ...


@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...


@overload
def flow(
    *,
    name: str | None = None,
    description: str | None = None,
    version: str | None = None,
    runner: Choice = None,
    task_runner: Choice = None,
    persist_result: bool | None = None,
    refresh_cache: bool = False,
    result_storage: Any = None,
    retries: int = 0,
    retry_delay_seconds: Delays = 0.0,
    log_prints: bool | None = None,
    tags: Iterable[str] = (),
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...


def flow(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a flow, with `@flow` or `@flow(option=...)`.

    The options are those of `FlowOptions`; `task_runner` is another name of `runner`. Raises `ConfigurationError` for
    unknown ones.
    """
    checked = FlowOptions().merged(_options(options))
    if fn is not None:
        return Flow(fn, checked)
    return lambda function: Flow(function, checked)
