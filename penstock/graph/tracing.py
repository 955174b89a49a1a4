"""Tracing: while a flow function runs, each task call becomes a node and returns a Future."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from penstock.digests.large import Large, Snapshots
from penstock.digests.python import digest_bytes
from penstock.digests.refs import Ref
from penstock.errors import TracingError
from penstock.graph import future_calls
from penstock.graph.arguments import SMALL, capture, checked, close_coroutines, futures_to_wait_for, replace_futures
from penstock.graph.binding import Style
from penstock.graph.constants.turns import Turns
from penstock.graph.future_calls import Living
from penstock.graph.futures import Future, value_as_returned
from penstock.graph.graphs import Entry, Graph, Node
from penstock.graph.keys import KeyContext, compile_template
from penstock.graph.tasks import TaskDefinition
from penstock.objects.copies import AsFar
from penstock.objects.places import place_of
from penstock.objects.questions import WHERE_PENDING_BELONGS
from penstock.process.context_variables import CallersVariables
from penstock.runtime import having, own_variable, task_run


class Values(Protocol):
    """The run behind a trace, which provides values."""

    def value(self, node: int, timeout: float | None) -> Any:
        """Execute everything traced so far until this node's value is known. Raises what the task raised.

        Each call returns another object, unless the value is immutable.
        """
        ...

    def wait(self, node: int, timeout: float | None) -> None:
        """Wait like `value`, without fetching the value or raising the failure."""
        ...

    def stored(self, node: int) -> Any:
        """Return the stored result instead of the value."""
        ...

    def failure(self, nodes: Sequence[int]) -> BaseException | None:
        """Return the first unhandled failure among the nodes, and mark all of them as handled."""
        ...

    def failed(self, node: int) -> bool:
        """Return whether the node is known to have failed."""
        ...

    def settled(self, node: int) -> bool:
        """Return whether `value` would return or raise at once."""
        ...

    def released(self, node: int) -> None:
        """Note that the last future of the node is gone, so that only other nodes can use its value."""
        ...


@dataclass(slots=True, eq=False)
class FlowFrame:
    """A flow or subflow that is being traced: the context of its tasks' keys and options."""

    name: str
    context: KeyContext
    fn: Callable[..., Any] | None = None
    """Its function, if it is a flow."""
    persist_result: bool | None = None
    refresh_cache: bool = False
    log_prints: bool | None = None
    result_storage: Any = None
    """The store of a subflow's results, if it is not the run's."""
    is_async: bool = False
    """Whether its function is async."""
    wait_for: tuple[Any, ...] = ()
    """Calls that must succeed before any of its own starts."""
    transaction: str = ""
    """The path of the transaction around its calls."""
    entries: dict[TaskDefinition, Entry] = field(default_factory=dict)
    earlier: list[Entry] = field(default_factory=list)
    """Entries of tasks whose code has changed since."""


class Trace:
    """The trace of one run: the graph so far and the flow that is adding to it."""

    def __init__(self, values: Values, frame: FlowFrame) -> None:
        self.turns = Turns()
        self.own_values: dict[int, Any] = {}
        self._values = values
        self._outermost = frame
        if frame.fn is not None:
            self.turns.note_code(frame.fn, is_flow=True)
        self._living = Living(values.released)
        self.graph = Graph(self._living)
        self.hold, self.let_go, self.held = self._living.hold, self._living.let_go, self._living.held
        self._snapshots = Snapshots(digest_bytes)
        self._numbers = itertools.count()
        self._asked = 0
        """Another number after each value that the flow asked for: calls ran before, and may have written files."""
        self._times = itertools.count(1)
        self.expected: dict[int, str] = {}
        """Async subflows that were called but not awaited yet, by number."""
        self.callers = CallersVariables()

    # -- adding nodes ---------------------------------------------------------------------------------------------

    def call(
        self,
        task: TaskDefinition,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        wait_for: Iterable[Any] = (),
    ) -> Future[Any]:
        """Add a node for a call and return its future.

        Raises `ParameterError`, `PolicyError`, `DigestError` or `TracingError` for invalid arguments or policies, and
        `TracingError` after the end of the run. Several threads may call tasks at the same time.
        """
        current = _current.get()
        binding, frame = task.binding, current[1] if current is not None and current[0] is self else self._outermost
        arguments = binding.bind(task, args, kwargs)
        if binding.markers:
            binding.mark(arguments)
        deps: tuple[int, ...] = ()
        large: tuple[Large, ...] = ()
        lent: tuple[str, ...] = ()
        if not SMALL.issuperset(map(type, arguments.values())):
            deps, large, lent = self._capture(arguments)
        order = () if type(wait_for) is tuple and not wait_for else self._order(wait_for, deps, task.name)
        if frame.wait_for:
            order = tuple(dict.fromkeys((*order, *self._order(frame.wait_for, deps, frame.name))))
        graph, entry = self.graph, frame.entries.get(task) or self._entry(task)
        if entry.may_change:
            with self.turns.lock:
                entry = self._now(task, entry)
        style = binding.style(args, kwargs) if binding.decorated else None
        callers, found = self.callers, copy_context()
        context = None if callers.bare == found else callers.of(found)
        complete = None
        if style is not None or context is not None or lent:
            witness = entry.template.witness(arguments) if lent and entry.template is not None else None
            complete = partial(_complete, graph, style=style, context=context, lent=lent, witness=witness)
        number = len(graph.nodes)
        node = graph.add(entry, arguments, deps=deps, order=order, large=large, complete=complete)
        future: Future[Any] = Future(node.id, self, True)
        if node.id < number and node.entry.refresh and self._values.failed(node.id):
            graph.forget_refresh(node.id)
            node = graph.add(entry, arguments, deps=deps, order=order, large=large, complete=complete)
            future = Future(node.id, self, True)
        return future

    def _now(self, task: TaskDefinition, entry: Entry) -> Entry:
        """Return the entry of a task with the constants of its code and the files of its policy as they are now."""
        template = entry.template
        assert template is not None  # otherwise nothing may change
        witness = template.code_witness
        if (witness is not None and witness.changed()) or template.files_changed(self._asked):
            entry = self._entry(task)
        return entry

    def _capture(self, arguments: dict[str, Any]) -> tuple[tuple[int, ...], tuple[Large, ...], tuple[str, ...]]:
        """Replace arguments by snapshots.

        Returns the nodes whose results they contain, the large values, and the names of arguments with objects that
        could not be copied.
        """
        deps: dict[int, None] = {}  # an ordered set, fast for a fan-in of thousands
        large: dict[Large, None] = {}
        lent: list[str] = []
        try:
            for name, value in arguments.items():
                if type(value) is Future:
                    arguments[name] = self._captured_future(value, deps)
                elif type(value) not in SMALL:
                    arguments[name], shares = self._captured(value, deps, large)
                    if shares:
                        lent.append(name)
        except TracingError:
            close_coroutines(list(arguments.values()))
            raise
        return tuple(deps), tuple(large), tuple(lent)

    def _captured_future(self, future: Future[Any], deps: dict[int, None]) -> Any:
        if future._source is not self:
            return value_as_returned(future)  # of another run: a plain argument
        deps[future._node] = None
        return Ref(future._node)

    def _captured(self, value: Any, deps: dict[int, None], large: dict[Large, None]) -> tuple[Any, bool]:
        """Return the snapshot of one argument, and whether it holds objects that could not be copied."""
        shared: list[Any] = []
        done: AsFar | None = None  # an object that is in several places stays one

        def keep(value: Any) -> Any:
            nonlocal done
            if type(value) is Future:
                return self._captured_future(value, deps)
            if done is None:
                done = AsFar(shared)
            taken = self._snapshots.take(checked(value), shared, done)
            if type(taken) is Large:
                large[taken] = None
            return taken

        return capture(value, keep), bool(shared)

    def _order(self, wait_for: Iterable[Any], deps: Sequence[int], name: str) -> tuple[int, ...]:
        order: dict[int, None] = {}

        def note(future: Future[Any]) -> None:
            if future._source is self and future._node not in deps:
                order[future._node] = None

        replace_futures(futures_to_wait_for(wait_for, name), note)
        return tuple(order)

    def _entry(self, task: TaskDefinition) -> Entry:
        frame = self.frame
        with self.turns.lock:
            if not task.derived:
                self.turns.note_code(task.fn)
            entry = _make_entry(task, frame, self.turns)
            if (before := frame.entries.get(task)) is not None:
                frame.earlier.append(before)
            frame.entries[task] = entry
        return entry

    # -- subflows -------------------------------------------------------------------------------------------------

    @property
    def frame(self) -> FlowFrame:
        """The innermost flow that is being traced. Each asyncio task has its own, since subflows may be gathered."""
        current = _current.get()
        return current[1] if current is not None and current[0] is self else self._outermost

    def inside(self, frame: FlowFrame) -> having:
        """Make calls in the block part of a subflow, whose nodes join the same graph."""
        if frame.fn is not None:
            self.turns.note_code(frame.fn, is_flow=True)
        return having(_current, (self, frame))

    def expect(self, flow: str) -> int:
        """Note that an async subflow was called and must be awaited."""
        number = next(self._numbers)
        self.expected[number] = flow
        return number

    def failure_inside(self, frame: FlowFrame, before: int) -> BaseException | None:
        """Wait for the calls of a subflow among the nodes from `before` on. Return the first unhandled failure."""
        own = {id(entry) for entry in (*frame.entries.copy().values(), *frame.earlier)}
        for node in self.graph.targets(before):
            if id(self.graph[node].entry) in own:
                self._values.wait(node, None)
        return self._values.failure([node.id for node in self.graph.nodes[before:] if id(node.entry) in own])

    # -- penstock.graph.futures.Source --------------------------------------------------------------------------------

    def value(self, node: int, timeout: float | None) -> Any:
        self.refuse_in_tasks(node)
        try:
            return self._values.value(node, timeout)
        finally:
            self._asked = next(self._times)

    def wait(self, node: int, timeout: float | None) -> None:
        self.refuse_in_tasks(node)
        try:
            self._values.wait(node, timeout)
        finally:
            self._asked = next(self._times)

    def stored(self, node: int) -> Any:
        self.refuse_in_tasks(node)
        try:
            return self._values.stored(node)
        finally:
            self._asked = next(self._times)

    def refuse_in_tasks(self, node: int) -> None:
        # A waiting task occupies a worker, perhaps the one that its future needs.
        if _current.get() is None and task_run.run_count:
            place = place_of(task_run.parameters, lambda part: type(part) is Future and part._node == node)
            raise TracingError(
                f"a future of {self.graph[node].name} was used inside of {task_run.task_name}",
                where=f"arguments{place}" if place else "",
                because="it is hidden in an object, where it is not recognised as an input",
                hint=WHERE_PENDING_BELONGS,
            )

    def settled(self, node: int) -> bool:
        return self._values.settled(node)

    def part(self, node: int, how: str, what: Any) -> Future[Any]:
        part = self.call(future_calls.PARTS[how], (Future(node, self), what), {})
        self._living.part_of(part._node, node)
        return part

    def values_in(self, arguments: Any) -> Any:
        return future_calls.values_in(arguments)

    def call_value(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], changed: Callable[[], Exception]
    ) -> Any:
        return future_calls.call(function, args, kwargs, changed)

    def describe(self, node: int) -> str:
        state = "done" if self.settled(node) else "not here yet"
        return f"{self.graph.path_of(node)}, node {node}, {state}"

    def awaitable(self, node: int) -> Generator[Any, None, Any]:
        import asyncio  # slow to import, and only needed for await

        waiting = asyncio.get_running_loop().run_in_executor(None, self._value_for_await, node)
        return waiting.__await__()

    def _value_for_await(self, node: int) -> Any:
        try:
            return self.value(node, None)
        except StopIteration as error:
            # asyncio futures cannot carry a StopIteration. Coroutines turn it into a RuntimeError, too.
            raise RuntimeError(f"{self.graph[node].name} raised StopIteration") from error


def _complete(
    graph: Graph,
    node: Node,
    *,
    style: Style | None,
    context: Mapping[ContextVar[Any], Any] | None,
    lent: tuple[str, ...],
    witness: str | None,
) -> None:
    """Set what few nodes have."""
    node.style, node.context = style, context
    if lent:
        graph.lent[node.id] = lent
        if node.entry.template is not None:
            graph.witnesses[node.id] = witness


def _make_entry(task: TaskDefinition, frame: FlowFrame, turns: Turns) -> Entry:
    policy = task.policy(persist_by_default=frame.persist_result)  # as its own options say, not the flow's store
    if frame.result_storage is not None and task.options.result_storage is None:
        task = task.with_options(result_storage=frame.result_storage)
    options = task.options
    template = None
    if policy is not None:
        template = compile_template(
            policy, identity=task.identity, fn=task.fn, parameters=task.binding.parameters, context=frame.context,
            turns=turns,
        )  # fmt: skip
    refresh = options.refresh_cache or frame.refresh_cache
    log_prints = frame.log_prints if options.log_prints is None else options.log_prints
    refresh = refresh and template is not None
    return Entry(task, template, frame.name, policy, refresh, bool(log_prints), frame.transaction)


_current: ContextVar[tuple[Trace, FlowFrame] | None] = own_variable("penstock_trace", None)


def current_trace() -> Trace | None:
    """Return the trace that a task call here would join, or None outside of flows and inside running tasks."""
    current = _current.get()
    return None if current is None else current[0]


class _Tracing(having):
    __slots__ = ("_trace",)

    def __init__(self, trace: Trace) -> None:
        super().__init__(_current, (trace, trace.frame))
        self._trace = trace

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        self._trace.callers.bare = None  # it contains the trace


def tracing(trace: Trace | None) -> having:
    """Make task calls in the block nodes of a trace. With None they run at once, as outside of flows."""
    return having(_current, None) if trace is None else _Tracing(trace)
