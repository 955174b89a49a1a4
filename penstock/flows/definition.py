"""Flows: called they run, and they say what a run would do, or how their graph looks."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, cast, overload

import msgspec

from penstock import events
from penstock.active_runs import ActiveRun, active_run
from penstock.coroutines import named, run_coroutine
from penstock.driver.retries import delay_before
from penstock.environments import Environment
from penstock.flows.entries import entry_of
from penstock.flows.options import FlowOptions, check_flow, chosen, flow_options
from penstock.graph.arguments import replace_futures
from penstock.graph.binding import Signature
from penstock.graph.futures import Future
from penstock.graph.graphs import Graph
from penstock.graph.tasks import TaskOptions, check_names
from penstock.graph.tracing import FlowFrame, Trace, current_trace
from penstock.journals.journal import Journal, RunRecord, new_record, read_record
from penstock.journals.parameters import KeptParameters, pickle_parameters, read_parameters
from penstock.objects.secrets import Redactor
from penstock.runs import Run, key_context, new_run_id
from penstock.runtime import FlowRunInfo, in_attempt, in_flow_run
from penstock.settings import Settings, current_settings
from penstock.worker.printing import printing_to_log

if TYPE_CHECKING:
    from penstock.graph.plans import Plan

P = ParamSpec("P")
R = TypeVar("R")


class Flow(Generic[P, R]):
    """A flow function with its options. Made by `@flow`. Of a method, `object.name` is the flow of that object."""

    def __init__(
        self, fn: Callable[..., Any], options: FlowOptions, *, binds: Literal["object", "class"] = "object"
    ) -> None:
        check_flow(fn)
        self.fn = fn
        self.options = options
        self.signature = Signature(fn)
        self.is_async = inspect.iscoroutinefunction(fn)
        self._binds = binds
        check_names(self.name, self.signature.parameters)
        functools.update_wrapper(self, fn)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        bound = owner if self._binds == "class" else instance
        return self if bound is None else Flow(MethodType(self.fn, bound), self.options)

    @property
    def name(self) -> str:
        return self.options.name or str(getattr(self.fn, "__name__", type(self.fn).__name__))

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def __call__(self, *args: Any, wait_for: Iterable[Any], **kwargs: Any) -> R: ...

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        """Run the flow and return what its function returned, with all futures in it as values.

        Raises the first failure that the flow function did not handle itself. Called inside another flow it joins that
        flow's graph, unless it is bound to a runner: then it is a run of its own. With `retries`, either way, its call
        waits for all its tasks, to know whether it has to be tried again. `wait_for=[...]` names calls that must have
        succeeded before any of its tasks begins.

        Of an async function it is a coroutine, as of any; inside of a flow that is not async, which could not await it,
        it is run to its end.
        """
        wait_for = kwargs.pop("wait_for", ())
        __tracebackhide__ = True  # by pytest and IPython
        parameters = self.signature.bind(self.name, args, kwargs)
        trace = current_trace()
        if trace is not None and self.options.runner is None:
            return cast(R, self._join(trace, parameters, wait_for))
        _resolved({"wait_for": [wait_for] if isinstance(wait_for, Future) else list(wait_for)})
        if self.is_async:
            coroutine = named(self._run_async(parameters), self.name)
            return cast(R, coroutine if trace is None or trace.frame.is_async else run_coroutine(coroutine))
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
            return run_coroutine(attempts)
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
        environment = self._environment(settings)
        store = environment.results().store
        record = read_record(store, run_id)
        whole = read_parameters(store, record, environment.signatures(), given=parameters)
        return self.run_with(whole, settings=settings, subscribers=subscribers, run_id=run_id)

    def plan(self, *args: P.args, **kwargs: P.kwargs) -> Plan:
        """What a run would do: every key looked up, nothing run. Goes on through sync points whose value is cached."""
        return self.plan_with(self.signature.bind(self.name, args, kwargs))

    def plan_with(self, parameters: Mapping[str, Any], *, settings: Settings | None = None) -> Plan:
        """`plan` with parameters by name and settings of its own."""
        environment = self._environment(settings or current_settings())
        info = FlowRunInfo(id=new_run_id(), flow_name=self.name, run_count=1, parameters=parameters)
        frame = self._frame(info.id, parameters, environment.salt(make=False))
        with in_flow_run(info):
            from penstock.previews import preview  # a run needs none of it

            return preview(lambda: self._call_to_end(parameters), frame, environment, look_up=True)

    def trace(self, *args: P.args, **kwargs: P.kwargs) -> Graph:
        """The graph up to the first sync point, nothing looked up; `graph.stopped_at` says where that is."""
        parameters = self.signature.bind(self.name, args, kwargs)
        info = FlowRunInfo(id=new_run_id(), flow_name=self.name, run_count=1, parameters=parameters)
        environment = self._environment(current_settings())
        frame = self._frame(info.id, parameters, environment.salt(make=False))
        with in_flow_run(info):
            from penstock.previews import preview  # a run needs none of it

            return preview(lambda: self._call_to_end(parameters), frame, environment, look_up=False).graph

    def with_options(self, **changes: Any) -> Flow[P, R]:
        """The same function with some options replaced; takes what `@flow` takes."""
        return Flow(self.fn, self.options.merged(flow_options(changes)), binds=self._binds)

    def __repr__(self) -> str:
        return f"Flow({self.name})"

    # -- inside -------------------------------------------------------------------------------------------------------

    def _environment(self, settings: Settings) -> Environment:
        storage = self.options.result_storage
        if storage is None:
            return Environment(settings)
        if isinstance(storage, str | os.PathLike):
            return Environment(settings.with_values(store=os.fspath(storage)))
        return Environment(settings.with_values(store=storage.url), store=storage)

    def _frame(self, run_id: str, parameters: Mapping[str, Any], salt: Callable[[], bytes] | None) -> FlowFrame:
        return FlowFrame(
            self.name,
            key_context(run_id, self.name, parameters, salt),
            persist_result=self.options.persist_result,
            refresh_cache=self.options.refresh_cache,
            log_prints=self.options.log_prints,
            is_async=self.is_async,
        )

    def _printing(self, enabled: bool | None) -> AbstractContextManager[None]:
        return printing_to_log(self.name, enabled=enabled, kind="flow_runs")

    def _call_to_end(self, parameters: Mapping[str, Any]) -> Any:
        value = self.signature.call(self.fn, parameters)
        return run_coroutine(value) if inspect.iscoroutine(value) else value

    def _join(self, trace: Trace, parameters: Mapping[str, Any], wait_for: Iterable[Any]) -> Any:
        if self.is_async:
            coroutine = named(self._join_async(trace, parameters, wait_for, trace.expect(self.name)), self.name)
            return coroutine if trace.frame.is_async else run_coroutine(coroutine)
        for attempt in itertools.count(1):
            frame, before = self._frame_inside(trace, parameters, wait_for), len(trace.graph)
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

    async def _join_async(
        self, trace: Trace, parameters: Mapping[str, Any], wait_for: Iterable[Any], expected: int
    ) -> Any:
        import asyncio  # the time it takes to import is for async flows

        trace.expected.pop(expected, None)
        for attempt in itertools.count(1):
            frame, before = self._frame_inside(trace, parameters, wait_for), len(trace.graph)
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

    def _frame_inside(self, trace: Trace, parameters: Mapping[str, Any], wait_for: Iterable[Any]) -> FlowFrame:
        outer = trace.frame
        frame = self._frame(outer.context.run_id, parameters, outer.context.salt)
        frame.wait_for = (*outer.wait_for, *([wait_for] if isinstance(wait_for, Future) else wait_for))
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
        attempts = _Attempts(self, parameters, self._environment(settings), run_id, subscribers)
        while True:
            active = attempts.begin()
            with active_run(active), self._printing(self.options.log_prints):
                active.run._value = active.finish(self.signature.call(self.fn, parameters))
            delay = attempts.delay_before_next(active.run)
            if delay is None:
                return active.run
            time.sleep(delay)

    async def _run_attempts(
        self,
        parameters: dict[str, Any],
        settings: Settings,
        run_id: str | None,
        subscribers: Sequence[Callable[[events.Event], None]],
    ) -> Run[R]:
        import asyncio  # the time it takes to import is for async flows

        attempts = _Attempts(self, parameters, self._environment(settings), run_id, subscribers)
        while True:
            active = attempts.begin()
            with active_run(active), self._printing(self.options.log_prints):
                try:
                    returned = await self.signature.call(self.fn, parameters)
                    active.run._value = await asyncio.to_thread(active.finish, returned)
                except Exception:
                    await asyncio.to_thread(active.end_after_failure)  # and not in the loop, when the block ends
                    raise
            delay = attempts.delay_before_next(active.run)
            if delay is None:
                return active.run
            await asyncio.sleep(delay)


_begun: ContextVar[list[str] | None] = ContextVar("penstock_begun", default=None)


@contextlib.contextmanager
def noting_runs() -> Iterator[list[str]]:
    """The names of the flows that begin to run in the block."""
    names: list[str] = []
    token = _begun.set(names)
    try:
        yield names
    finally:
        _begun.reset(token)


class _Attempts:
    """The attempts of one run of a flow: same id and record, a new graph each time."""

    def __init__(
        self,
        flow: Flow[Any, Any],
        parameters: dict[str, Any],
        environment: Environment,
        run_id: str | None,
        subscribers: Sequence[Callable[[events.Event], None]],
    ) -> None:
        self.flow = flow
        self.parameters = parameters
        self.environment = environment
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

    def begin(self) -> ActiveRun:
        self.count += 1
        flow, record = self.flow, self.record
        if (begun := _begun.get()) is not None:
            begun.append(flow.name)
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
            runner = self.environment.runner(chosen(flow.options.runner, self.count))
        frame = flow._frame(record.id, self.parameters, self.environment.salt())
        return ActiveRun(run, self.environment, runner=runner, info=info, frame=frame, journal=journal)

    def delay_before_next(self, run: Run[Any]) -> float | None:
        """Seconds until the next attempt, or None if there is none."""
        if run.state != "failed" or self.count > self.flow.options.retries:
            return None
        return self.flow._delay(self.count)


def _resolved(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a run of its own: futures of the surrounding flow are waited for."""
    return {name: replace_futures(value, lambda future: future.result()) for name, value in parameters.items()}
