"""Flows: run one by calling it, plan what a run would do, or trace its graph."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, cast, overload

from penstock.coroutines import named, run_coroutine
from penstock.flows.options import FlowOptions, check_flow, flow_options
from penstock.graph.arguments import listed, replace_futures
from penstock.graph.binding import Binding
from penstock.graph.futures import value_as_returned
from penstock.graph.tasks import check_names
from penstock.graph.tracing import Trace, current_trace

if TYPE_CHECKING:
    from penstock import events
    from penstock.flows.attempts import Attempts, JoinedAttempts, RunAttempts
    from penstock.graph.graphs import Graph
    from penstock.graph.plans import Plan
    from penstock.runs import Run
    from penstock.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")


class Flow(Generic[P, R]):
    """A flow function with its options, created by `@flow`. For a method, `object.name` is the flow of that object."""

    def __init__(
        self, fn: Callable[..., Any], options: FlowOptions, *, binds: Literal["object", "class"] = "object"
    ) -> None:
        check_flow(fn)
        self.fn = fn
        self.options = options
        self.binding = Binding(fn)
        self.is_async = inspect.iscoroutinefunction(fn)
        self._binds = binds
        check_names(self.name, self.binding.parameters)
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
        """Run the flow and return the value of its function, with all futures in it resolved.

        Inside another flow, the call joins that flow's graph, unless it is bound to a runner: then it is a run of its
        own. With `retries`, the call waits for all its tasks in both cases, to decide whether to try again.

        Args:
            args: The arguments of the function.
            kwargs: The keyword arguments of the function, and `wait_for`: futures of calls that must have succeeded
                before any task of this flow begins.

        Returns:
            The resolved value. For an async function, a coroutine that returns it; in a flow that is not async and
            could not await it, the value.

        Raises:
            ParameterError: The arguments do not fit the function.
            Exception: The first failure that the flow function did not handle.
        """
        wait_for = kwargs.pop("wait_for", ())
        __tracebackhide__ = True  # by pytest and IPython
        parameters = self.binding.bind(self, args, kwargs)
        trace = current_trace()
        if trace is not None and self.options.runner is None:
            return cast(R, self._join(trace, parameters, wait_for))
        replace_futures(listed(wait_for, self.name), lambda future: future.result())
        if self.is_async:
            coroutine = named(self._run_async(parameters), self.name)
            return cast(R, coroutine if trace is None or trace.frame.is_async else run_coroutine(coroutine))
        attempts = self._attempts(_resolved(parameters))
        self._call(attempts, attempts.parameters)
        return cast(R, attempts.run.result())

    def run(self, *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """Run the flow and return the `Run`: its state, counts, graph, and `result()`, which raises if it failed."""
        return self.run_with(self.binding.bind(self, args, kwargs))

    def run_with(
        self,
        parameters: Mapping[str, Any],
        *,
        settings: Settings | None = None,
        subscribers: Iterable[Callable[[events.Event], None]] = (),
        run_id: str | None = None,
    ) -> Run[R]:
        """Run the flow as `run` does, with parameters by name.

        Args:
            parameters: The values of the function's parameters.
            settings: The settings of this run. By default those of the process.
            subscribers: Called with each event as it happens.
            run_id: The id of the run. By default a new one.

        Returns:
            The finished run.
        """
        attempts = self._attempts(dict(parameters), settings, run_id, subscribers)
        if self.is_async:
            run_coroutine(self._await(attempts, attempts.parameters))
        else:
            self._call(attempts, attempts.parameters)
        return cast("Run[R]", attempts.run)

    def resume(
        self,
        run_id: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        settings: Settings | None = None,
        subscribers: Iterable[Callable[[events.Event], None]] = (),
    ) -> Run[R]:
        """Continue a failed or killed run with its id and parameters, so that all its published results are hits.

        Args:
            run_id: The id of the run.
            parameters: The values of secret parameters, by name; these are not stored with a run.
            settings: The settings to use. By default those of the process.
            subscribers: Called with each event as it happens.

        Returns:
            The finished run.

        Raises:
            StoreError: There is no such run.
            ParameterError: A parameter is missing, was not stored, or must not be read here.
            SignatureRefused: The record of the run was changed.
        """
        from penstock.flows.running import parameters_of

        whole = parameters_of(self, run_id, parameters, settings)
        return self.run_with(whole, settings=settings, subscribers=subscribers, run_id=run_id)

    def plan(self, *args: P.args, **kwargs: P.kwargs) -> Plan:
        """Return what a run would do. Looks up every key and runs no task; passes sync points whose value is cached."""
        return self.plan_with(self.binding.bind(self, args, kwargs))

    def plan_with(self, parameters: Mapping[str, Any], *, settings: Settings | None = None) -> Plan:
        """Return the plan as `plan` does, with parameters by name. `settings` are by default those of the process."""
        from penstock.flows.running import preview_of

        return preview_of(self, lambda: self._call_to_end(parameters), parameters, settings, look_up=True)

    def trace(self, *args: P.args, **kwargs: P.kwargs) -> Graph:
        """Return the graph up to the first sync point (`graph.stopped_at`), without looking anything up."""
        from penstock.flows.running import preview_of

        parameters = self.binding.bind(self, args, kwargs)
        return preview_of(self, lambda: self._call_to_end(parameters), parameters, look_up=False).graph

    def with_options(self, **changes: Any) -> Flow[P, R]:
        """Return a flow of the same function with some options replaced. Accepts the options of `@flow`."""
        return Flow(self.fn, self.options.merged(flow_options(changes)), binds=self._binds)

    def __repr__(self) -> str:
        return f"Flow({self.name})"

    # -- inside -------------------------------------------------------------------------------------------------------

    def _call_to_end(self, parameters: Mapping[str, Any]) -> Any:
        value = self.binding.call(self.fn, parameters)
        return run_coroutine(value) if inspect.iscoroutine(value) else value

    def _join(self, trace: Trace, parameters: Mapping[str, Any], wait_for: Iterable[Any]) -> Any:
        from penstock.flows.running import joined_attempts

        attempts = joined_attempts(self, trace, parameters, wait_for)
        if self.is_async:
            coroutine = named(self._join_async(attempts, parameters, trace.expect(self.name)), self.name)
            return coroutine if trace.frame.is_async else run_coroutine(coroutine)
        self._call(attempts, parameters)
        return attempts.last.returned

    async def _join_async(self, attempts: JoinedAttempts, parameters: Mapping[str, Any], expected: int) -> Any:
        attempts.trace.expected.pop(expected, None)
        await self._await(attempts, parameters)
        return attempts.last.returned

    def _call(self, attempts: Attempts[Any], parameters: Mapping[str, Any]) -> None:
        for attempt in attempts:
            with attempt:
                attempt.returned = self.binding.call(self.fn, parameters)

    async def _await(self, attempts: Attempts[Any], parameters: Mapping[str, Any]) -> None:
        async for attempt in attempts:
            async with attempt:
                attempt.returned = await self.binding.call(self.fn, parameters)

    async def _run_async(self, parameters: Mapping[str, Any]) -> R:
        attempts = self._attempts(_resolved(parameters))
        await self._await(attempts, attempts.parameters)
        return cast(R, attempts.run.result())

    def _attempts(
        self,
        parameters: dict[str, Any],
        settings: Settings | None = None,
        run_id: str | None = None,
        subscribers: Iterable[Callable[[events.Event], None]] = (),
    ) -> RunAttempts:
        # Whatever a run needs beyond its flow is loaded by the first: modules that only define flows start sooner.
        from penstock.flows.running import run_attempts

        return run_attempts(self, parameters, settings, run_id, subscribers)


def _resolved(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a run of its own: futures of the outer flow become values that only this run has."""
    return {name: replace_futures(value, value_as_returned) for name, value in parameters.items()}
