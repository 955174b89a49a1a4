"""The attempts of one call of a flow: how many there are, what surrounds each, and the result of the last."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import msgspec

from penstock import events
from penstock.active_runs import ActiveRun, active_run
from penstock.driver.retries import delay_before
from penstock.environments import Environment
from penstock.flows.entries import entry_of
from penstock.flows.options import Choice, FlowOptions
from penstock.graph.tasks import TaskOptions
from penstock.graph.tracing import FlowFrame, Trace
from penstock.journals.journal import Journal, RunRecord, new_record, read_record
from penstock.journals.parameters import KeptParameters, pickle_parameters
from penstock.objects.secrets import Redactor
from penstock.runners.base import Runner
from penstock.runs import Run, new_run_id
from penstock.runtime import FlowRunInfo, in_attempt, in_flow_run, own_variable
from penstock.settings import redacted
from penstock.worker.printing import printing_to_log

_begun: ContextVar[list[str] | None] = own_variable("penstock_begun", None)


@contextmanager
def noting_runs() -> Iterator[list[str]]:
    """Yield a list that receives the names of the flows that start to run in the block."""
    names: list[str] = []
    token = _begun.set(names)
    try:
        yield names
    finally:
        _begun.reset(token)


class Attempt(ABC):
    """One attempt: a block, sync or async, in which the flow function is called. Set `returned` to its value."""

    returned: Any = None
    _exits: ExitStack

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            self._begin(exits)
            self._exits = exits.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        if error is not None:
            return bool(self._exits.__exit__(kind, error, at))
        try:
            self._finish()
        except BaseException as failure:  # noqa: BLE001 (what is around the function judges it)
            return self._ends_with(failure)
        self._exits.__exit__(None, None, None)
        return False

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> bool:
        if error is not None:
            await self._failed_async(error)
            return bool(self._exits.__exit__(kind, error, at))
        try:
            await self._finish_async()
        except BaseException as failure:  # noqa: BLE001 (what is around the function judges it)
            return self._ends_with(failure)
        self._exits.__exit__(None, None, None)
        return False

    def _ends_with(self, failure: BaseException) -> bool:
        """Exit the surrounding contexts with this error. Raises it unless one of them suppresses it."""
        if not self._exits.__exit__(type(failure), failure, failure.__traceback__):
            raise failure
        return False

    @abstractmethod
    def _begin(self, exits: ExitStack) -> None:
        """Enter the contexts that surround the function."""

    def _finish(self) -> None:  # noqa: B027 (most need not)
        """Wait for the futures that the function returned, inside the contexts that `_begin` entered."""

    async def _finish_async(self) -> None:  # noqa: B027 (most need not)
        """Do what `_finish` does without blocking the event loop."""

    async def _failed_async(self, error: BaseException) -> None:  # noqa: B027 (most need not)
        """Wait for calls that still run after the function raised, without blocking the event loop."""


A = TypeVar("A", bound=Attempt)


class Attempts(ABC, Generic[A]):
    """Iterates over attempts, with the delays between them. Afterwards, `last` is the final attempt.

    Not a generator: an exception of the user's function, `StopIteration` among them, passes through none of this.
    """

    last: A

    def __init__(self, options: FlowOptions) -> None:
        self.options = options
        self.count = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> A:
        if self._over():
            raise StopIteration
        if self.count:
            time.sleep(self._delay())
        return self._next()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> A:
        if self._over():
            raise StopAsyncIteration
        if self.count:
            import asyncio  # the time it takes to import is for async flows

            await asyncio.sleep(self._delay())
        return self._next()

    @abstractmethod
    def attempt(self) -> A:
        """Return the attempt with the number `count`."""

    @abstractmethod
    def again(self) -> bool:
        """Return whether the last attempt failed and may be retried. Raises an error that ends all attempts."""

    def _over(self) -> bool:
        return self.count > 0 and not self.again()

    def _next(self) -> A:
        self.count += 1
        self.last = self.attempt()
        return self.last

    def _delay(self) -> float:
        options = self.options
        delays = TaskOptions(retries=options.retries, retry_delay_seconds=options.retry_delay_seconds)
        return delay_before(delays, self.count, random.Random())


# -- a flow that joins the graph of the one that calls it -------------------------------------------------------------


class JoinedAttempts(Attempts["JoinedAttempt"]):
    """The attempts of a flow called inside another flow: each has a frame of its own in the same graph."""

    def __init__(self, options: FlowOptions, trace: Trace, frame: Callable[[], FlowFrame]) -> None:
        super().__init__(options)
        self.trace = trace
        self._frame = frame

    def attempt(self) -> JoinedAttempt:
        return JoinedAttempt(self, self._frame())

    def again(self) -> bool:
        failure = self.last.failure
        if failure is not None and self.count > self.options.retries:
            raise failure
        return failure is not None


class JoinedAttempt(Attempt):
    """Without retries, errors pass, and the call does not wait for the outcome of its tasks."""

    def __init__(self, attempts: JoinedAttempts, frame: FlowFrame) -> None:
        self.failure: BaseException | None = None
        self._attempts = attempts
        self._frame = frame
        self._before = len(attempts.trace.graph)

    def _begin(self, exits: ExitStack) -> None:
        attempts, frame = self._attempts, self._frame
        if attempts.options.retries:
            exits.push(self._judge)
        exits.enter_context(attempts.trace.inside(frame))
        exits.enter_context(printing_to_log(frame.name, enabled=frame.log_prints, kind="flow_runs"))
        if attempts.options.retries:
            exits.enter_context(in_attempt(attempts.count))

    def _judge(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        attempts = self._attempts
        if error is not None and (not isinstance(error, Exception) or attempts.count > attempts.options.retries):
            return False
        self.failure = attempts.trace.failure_inside(self._frame, self._before) or error
        return True


# -- a flow that is a run of its own ----------------------------------------------------------------------------------


class Runnable(Protocol):
    """The parts of a flow that a run uses."""

    fn: Callable[..., Any]
    options: FlowOptions
    is_async: bool

    @property
    def name(self) -> str: ...


class RunAttempts(Attempts["RunAttempt"]):
    """The attempts of a run: they share an id and a record, and each has a new graph."""

    def __init__(
        self,
        flow: Runnable,
        parameters: dict[str, Any],
        environment: Environment,
        run_id: str | None,
        subscribers: Iterable[Callable[[events.Event], None]],
        frame: Callable[[str, Callable[[], bytes] | None], FlowFrame],
    ) -> None:
        super().__init__(flow.options)
        self.flow = flow
        self._frame = frame
        self.parameters = parameters
        self._environment = environment
        self._subscribers = tuple(subscribers)
        self._kept: KeptParameters | None = None
        self._redact = Redactor(parameters)
        self._record = self._begun(run_id)

    @property
    def run(self) -> Run[Any]:
        return self.last.active.run

    def again(self) -> bool:
        return self.run.state == "failed" and self.count <= self.options.retries

    def attempt(self) -> RunAttempt:
        flow, record = self.flow, self._record
        if (begun := _begun.get()) is not None:
            begun.append(flow.name)
        info = _told_of(record.id, flow, self.parameters, self.count)
        kept, self._kept = self._kept, None  # they are written once, whatever attempts follow
        environment, store = self._environment, self._environment.results().store
        journal = Journal(record, store, environment.clock, self._subscribers, parameters=kept, redact=self._redact)
        with in_flow_run(info):
            runner = environment.runner(_chosen(flow.options.runner, self.count))
        run: Run[Any] = Run(record.id, flow.name, self.parameters)
        frame = self._frame(record.id, environment.salt())
        return RunAttempt(ActiveRun(run, environment, runner=runner, info=info, frame=frame, journal=journal))

    def _begun(self, run_id: str | None) -> RunRecord:
        if run_id is not None:
            record = read_record(self._environment.results().store, run_id)
            return msgspec.structs.replace(record, attempts=record.attempts + 1, state="running", error="")
        signatures, settings = self._environment.signatures(), self._environment.settings
        name, entry = self.flow.name, entry_of(self.flow.fn)
        self._kept = pickle_parameters(self.parameters)
        by_flag = settings.runner if settings.origin("runner") == "flag" else ""
        return new_record(
            new_run_id(),
            name,
            entry,
            self.parameters,
            kept=self._kept,
            signatures=signatures,
            runner_address=by_flag if by_flag == redacted(by_flag) else "",
        )


class RunAttempt(Attempt):
    """An attempt of a run. At its end, returned futures are resolved, and errors are kept in `active.run`."""

    def __init__(self, active: ActiveRun) -> None:
        self.active = active

    def _begin(self, exits: ExitStack) -> None:
        frame = self.active.trace.frame
        exits.enter_context(active_run(self.active))
        exits.enter_context(printing_to_log(frame.name, enabled=frame.log_prints, kind="flow_runs"))

    def _finish(self) -> None:
        self.active.run._value = self.active.finish(self.returned)

    async def _finish_async(self) -> None:
        import asyncio

        await asyncio.to_thread(self._finish)

    async def _failed_async(self, error: BaseException) -> None:
        import asyncio

        if isinstance(error, Exception):
            await asyncio.to_thread(self.active.end_after_failure)  # and not in the loop, when the run's block ends


def _chosen(runner: Choice, count: int) -> Runner | str | None:
    """Return the runner of an attempt, which may be given as a function of the attempt's number."""
    # Runners are callable too: calling one binds a flow to it.
    if callable(runner) and not isinstance(runner, Runner):
        return runner(count)
    return runner


def _told_of(id: str, flow: Runnable, parameters: Mapping[str, Any], count: int) -> FlowRunInfo:
    tags = tuple(sorted(flow.options.tags))
    return FlowRunInfo(id=id, name=id, flow_name=flow.name, run_count=count, parameters=parameters, tags=tags)
