"""A run under way: the trace, the driver, and the values that the flow asks for."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from penstock import events
from penstock.driver.assembly import make_driver
from penstock.driver.planning import MAX_REMAKES
from penstock.driver.state.run_state import RunState
from penstock.driver.state.values import Result
from penstock.environments import Environment, check_annotation, check_conditions, check_reach, check_store
from penstock.errors import DamagedResult, PenstockError, TracingError, is_a
from penstock.graph.arguments import replace_futures
from penstock.graph.futures import Future, WaitedInVain, forget_value, has_value
from penstock.graph.graphs import Entry, Node
from penstock.graph.mistakes import note_futures, refuse_hidden_futures
from penstock.graph.policies import IsolationLevel
from penstock.graph.tracing import FlowFrame, Trace, tracing
from penstock.imported import loaded
from penstock.journals.journal import Journal
from penstock.locks.single_flight import EVERYONE, Flight
from penstock.logs.visible import visible_logs
from penstock.objects.copies import immutable
from penstock.objects.package_copies import CannotCopy
from penstock.objects.tracebacks import without_ours
from penstock.process.termination import Terminated, ends_orderly
from penstock.runners.base import Runner
from penstock.runs import Run, tally
from penstock.runtime import FlowRunInfo, in_flow_run
from penstock.settings import in_force, without_password
from penstock.storage.results.store import ResultStore
from penstock.storage.results.stored import StoredResult
from penstock.storage.stores.base import Store
from penstock.worker.messages import WorkerContext
from penstock.worker.nesting import Lending, Nesting, nesting
from penstock.worker.program_parts import registered_digests, script_classes
from penstock.worker.reading import read_back
from penstock.worker.shipping.loading import check_not_loading


class ActiveRun:
    """A run under way: the driver, the trace, and the values the flow function asks for."""

    def __init__(
        self,
        run: Run[Any],
        environment: Environment,
        *,
        runner: Runner,
        info: FlowRunInfo,
        frame: FlowFrame,
        journal: Journal,
    ) -> None:
        self.run = run
        self.environment = environment
        self.journal = journal
        self.trace = Trace(self, frame)
        run.graph = self.trace.graph
        run._environment = environment
        self.info = info
        self.runner = runner
        self._immutable: dict[int, Any] = {}
        """The immutable values that the flow has, by node; mutable ones are each future's own."""
        self._observed: set[int] = set()
        self._taken: dict[int, Result] | None = None
        """The results that make up the flow's return value, by node, while it is assembled."""
        self._flights: dict[int, Flight] = {}
        self._around = around = nesting()
        self.trace.turns.alone = around is None
        self._thread = threading.get_ident()
        self._nesting = (around or Nesting()).run(run.id, runner.reach)
        self._lending = Lending(around) if around is not None else None
        settings = environment.settings
        store = environment.results().store
        check_not_loading(run.flow_name, runner.reach)
        check_store(runner, store)
        context = WorkerContext(
            info,
            store.url,
            environment.signatures(),
            environment.results,
            index=without_password(settings.index),
            settings=settings,
            recorded=journal.recorded,
            script=None if around is None else script_classes(),
            digests=None if around is None else registered_digests(),
            nesting=self._nesting,
        )
        self.driver = make_driver(
            RunState(self.trace.graph, held=self.trace.held, run_id=run.id),
            settings=settings,
            clock=environment.clock,
            info={"run": run.id, "flow": run.flow_name},
            open_results=environment.results,
            flight_of=self._flight_of,
            permits=environment.locks_of_settings,
            open_engine=lambda report: runner.open(context, report),
            emit=self._emit,
            on_task=self._note_code,
            around=around,
        )
        self.state = self.driver.run

    def _flight_of(self, node: Node) -> Flight:
        """Return how the node's key is protected from being computed twice at the same time."""
        if (flight := self._flights.get(id(node.entry))) is None:  # the same for all nodes of a task
            flight = self._flights[id(node.entry)] = self._checked_flight(node)
        return flight

    def _checked_flight(self, node: Node) -> Flight:
        policy, storage = node.entry.policy, node.entry.task.options.result_storage
        if node.entry.template is None or policy is None:
            return EVERYONE
        results = self.environment.results(storage)
        check_store(self.runner, results.store)
        check_annotation(results, node.entry.task)
        # A nested call that waits for a lock while its caller holds another could deadlock.
        nested = self._around is not None
        try:
            flight = self.environment.flight(policy, storage)
            if flight.manager is not None and not (nested and not flight.required):
                check_conditions(results.store, node.name)
        except PenstockError as error:
            if policy.isolation_level is IsolationLevel.SERIALIZABLE:
                raise
            logging.getLogger("penstock.locks").warning("%s may be computed more than once: %s", node.name, error.what)
            self.driver.inbox.locks_down("lock", error, True)
            return EVERYONE
        if flight.required and flight.manager is not None:
            check_reach(self.runner, flight.manager, node.name, reach=self._nesting.reach)
        return EVERYONE if nested and not flight.required else flight

    def _note_code(self, entry: Entry) -> None:
        """Record the task's code with its first result, so that a later miss can be explained."""
        if entry.template is not None:
            results = self.environment.results(entry.task.options.result_storage)
            self.journal.beside(lambda redact: _write_code_notes(entry, results.store, redact))

    def _emit(self, event: events.Event) -> None:
        self.journal.emit(event)
        if self._lending is not None:
            self._lending.note(event)

    # -- penstock.graph.tracing.Values ---------------------------------------------------------------------------------

    def value(self, node: int, timeout: float | None) -> Any:
        if node in self._immutable:
            return self._immutable[node]
        remakes = 0
        while True:
            result = self._result(node, timeout, afresh=remakes > 0)
            try:
                value = self._bring(node, result)
            except DamagedResult as damaged:
                if remakes == MAX_REMAKES:
                    raise
                remakes += 1
                self.driver.remake(node, damaged.because, result.record.generation if result.record else None)
            else:
                if self._hand_out(node, result):
                    if immutable(value):
                        self._immutable[node] = value
                    return value

    def _hand_out(self, node: int, result: Result) -> bool:
        """Return whether a value may be handed out. If so, the driver can no longer decide its node again."""
        if self._taken is not None:
            self._taken[node] = result
            return True
        self.state.handed_out.add(node)
        if self.state.results.get(node) is result:
            return True
        self.state.handed_out.discard(node)  # the driver was first and is deciding it again
        return False

    def _result(self, node: int, timeout: float | None, *, afresh: bool = False) -> Result:
        """Wait for the node's result and return it; raise its error. `afresh` always asks the driver."""
        while True:
            # Known results need no exchange with the driver: a flow may read 10 000 values.
            if afresh or self.driver.over or not self._known(node):
                self.wait(node, timeout)
            if (error := self.state.error(node)) is not None:
                self._observed.add(node)
                raise error
            result = self.state.results.get(node)
            if result is not None:
                return result
            # Otherwise a worker has just found its bytes missing, and it is being recomputed.

    def _known(self, node: int) -> bool:
        return self.state.over(node) and (self.state.values.there(node) or self.state.error(node) is not None)

    def wait(self, node: int, timeout: float | None) -> None:
        with self._waiting():
            done = self.driver.advance(want=(node,))
            over = done.wait(timeout)
        if not over:
            self.driver.give_up(done)
            raise WaitedInVain(f"{self.trace.graph[node].name} did not finish within {timeout} s")
        self._raise_crash()
        if self.driver.over and not self._still_known(node):
            raise self._too_late(node)

    @contextlib.contextmanager
    def _waiting(self, *, last: bool = False) -> Iterator[None]:
        """Tell the trace that the flow waits; for the last time, if it has returned."""
        turns = self.trace.turns
        if threading.get_ident() != self._thread:
            with turns.another_waits():
                yield  # for `await`, or another thread of the flow: other code of the flow runs meanwhile
            return
        turns.begin_to_wait(last=last)
        try:
            yield
        finally:
            turns.go_on(alone=self._around is None and self.state.scheduler.idle)

    def _too_late(self, node: int) -> TracingError:
        return TracingError(
            f"the result of {self.trace.graph[node].name} was requested after its run had ended",
            because="a future is only valid during the run of its flow",
            hint="call result() inside the flow, or return the future from the flow",
        )

    def _still_known(self, node: int) -> bool:
        """Return whether a finished run still knows the node's error or record."""
        result = self.state.results.get(node)
        return self.state.error(node) is not None or (result is not None and result.record is not None)

    def _bring(self, node: int, result: Result) -> Any:
        return read_back(lambda: self._read(node, result), f"the result of {self.trace.graph[node].name}")

    def _read(self, node: int, result: Result) -> Any:
        handle = result.handle  # the driver may release it when the run is over
        if handle is not None and not self.driver.over:
            try:
                return self.driver.fetch(handle)
            except CannotCopy as shared:
                if result.record is None:
                    return shared.value
            except DamagedResult:
                if result.record is None:
                    raise
        if result.record is None:
            raise self._too_late(node)  # the run ended while another thread asked, and only its engine had the value
        return self._results_of(node).load(result.record)

    def stored(self, node: int) -> StoredResult:
        result = self._result(node, None)
        if result.record is None:
            raise TracingError(
                f"{self.trace.graph[node].name} has no stored result",
                because="its results are not kept",
                hint="give the task a cache policy, or persist_result=True",
            )
        if not self._hand_out(node, result):
            return self.stored(node)
        results = self._results_of(node)
        return StoredResult(results, results.whole(result.record))

    def _results_of(self, node: int) -> ResultStore:
        return self.environment.results(self.trace.graph[node].entry.task.options.result_storage)

    def failure(self, nodes: Sequence[int]) -> BaseException | None:
        failed = [node for node in nodes if node not in self._observed and self.state.error(node) is not None]
        self._observed.update(failed)
        return self.state.error(failed[0]) if failed else None

    def failed(self, node: int) -> bool:
        return self.state.error(node) is not None

    def settled(self, node: int) -> bool:
        return node in self._immutable or self.state.over(node)

    def released(self, node: int) -> None:
        self._immutable.pop(node, None)
        self.driver.dropped.append(node)

    def _raise_crash(self) -> None:
        if self.driver.crash is not None:
            raise self.driver.crash

    # -- ending -------------------------------------------------------------------------------------------------------

    def finish(self, returned: Any) -> Any:
        """Run what is left; return the flow's value with its futures resolved, or raise the first unhandled failure."""
        if self.trace.expected:
            raise TracingError(
                f"{self.run.flow_name} called {sorted(set(self.trace.expected.values()))[0]} without awaiting it",
                because="an async flow does nothing until it is awaited",
                hint="write `await` before the call, or pass it to asyncio.gather",
            )
        self.trace.graph.end()  # threads of the flow may still run
        brought: list[Future[Any]] = []  # to return their values; the flow did not ask for these
        while True:
            with self._waiting(last=True):
                self.driver.advance().wait()
            self._raise_crash()
            for node in self.state.failed_nodes():
                if node not in self._observed:
                    error = self.state.error(node)
                    assert error is not None  # it is a failed node
                    raise error
            taken = self._taken = {}
            value = replace_futures(returned, lambda future: _brought(future, brought))
            if all(self.state.results.get(node) is result for node, result in taken.items()):
                refuse_hidden_futures(value)
                self.trace.turns.end()
                return value
            for future in brought:  # bytes were lost meanwhile, and recomputing gave another value
                self._immutable.pop(future._node, None)
                forget_value(future)
            brought.clear()

    def raised(self, error: BaseException) -> bool:
        """Return whether a call of the run failed with this error."""
        return any(progress.error is error for progress in list(self.state.progress.values()))

    def end_after_failure(self) -> None:
        """Finish the other calls of a failed flow as far as the setting `on_failure` says so."""
        settings = self.environment.settings
        if settings.on_failure == "keep_going":
            self.driver.advance().wait()
        elif settings.on_failure == "finish":
            self.driver.finish_running().wait(settings.finish_seconds)

    def close(self) -> None:
        """Stop the driver and update the run's counts."""
        self.driver.close()
        if self._lending is not None:
            self._lending.close()
        tally(self.run, self.state)


def _brought(future: Future[Any], brought: list[Future[Any]]) -> Any:
    """Return the future's value, noting futures that the flow has not asked for theirs."""
    if has_value(future):
        return future.result()
    value = future.result()
    brought.append(future)
    return value


def _write_code_notes(entry: Entry, store: Store, redact: Callable[[str], str]) -> None:
    from penstock.explanations.code_notes import write_code_notes  # in the writing thread, and only if a task runs

    write_code_notes(entry, store, redact)


@contextlib.contextmanager
def active_run(active: ActiveRun) -> Iterator[ActiveRun]:
    """Run from start to end; however the block ends, the state, record and log are correct afterwards."""
    run, began, settings = active.run, time.perf_counter(), active.environment.settings
    with ends_orderly():
        active.journal.started(repr(active.runner))
        active.driver.start()
        try:
            with (
                visible_logs.shown(settings.log_level, settings.extra_loggers),
                in_flow_run(active.info),
                in_force(settings),
                tracing(active.trace),
            ):
                yield active
            run.state = "completed"
        except BaseException as error:
            active.trace.graph.end()
            run.error = error
            run.state = _state_after(error)
            note_futures(error)
            if settings.log_level != "DEBUG":
                without_ours(error, of_task=active.raised(error))
            if is_a(error, Exception):
                active.end_after_failure()
            active.driver.cancel()
            if not is_a(error, Exception):
                raise
        finally:
            active.close()
            run.seconds = time.perf_counter() - began
            if (record := active.journal.record) is not None:
                record.counts, record.tasks, record.stats = run.counts, run.tasks, run.stats
            active.journal.finished(run.state, run.seconds, run.error)


def _state_after(error: BaseException) -> str:
    # Ctrl-C reaches an async flow as asyncio's CancelledError. asyncio is not imported for that alone.
    asyncio = loaded("asyncio")
    stopped = asyncio is not None and is_a(error, asyncio.CancelledError)
    if stopped or is_a(error, KeyboardInterrupt) or is_a(error, Terminated):
        return "cancelled"
    return "failed" if is_a(error, Exception) else "crashed"
