"""A world for the driver's core: engine, locks, store and clock are scripted, and there are no threads."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from penstock import events as log
from penstock.digests.python import digest as digest_of
from penstock.driver import instructions as do
from penstock.driver.assembly import make_core
from penstock.driver.events import Answered, Broken, Event, Extend, GoOn, Refused, Woken
from penstock.driver.instructions import Instruction, Question
from penstock.driver.state.progress import Moment
from penstock.driver.state.run_state import RunState
from penstock.driver.state.transitions import State
from penstock.graph.futures import Future
from penstock.graph.graphs import Node
from penstock.graph.keys import KeyContext
from penstock.graph.policies import INPUTS
from penstock.graph.steps import Answer, Hit, NoAnswer, NoHit, Query
from penstock.graph.tasks import TaskDefinition, TaskOptions
from penstock.graph.tracing import FlowFrame, Trace
from penstock.limits.rates import Rate
from penstock.locks import MemoryLockManager
from penstock.locks.base import Holder, Lease
from penstock.locks.single_flight import EVERYONE, Flight
from penstock.settings import Settings
from penstock.storage.records.records import Producer, ResultRecord
from penstock.worker.failures import describe
from penstock.worker.messages import Bundle, Finished, Outcome, Started

LOCKS = MemoryLockManager()
"""Only its identity matters; it is never called."""
OTHERS = "another session"


class NoValues:
    """The value source of a trace in which nobody requests values."""

    def value(self, node: int, timeout: float | None) -> Any:
        raise AssertionError("nobody should ask for a value")

    def settled(self, node: int) -> bool:
        return False

    def failed(self, node: int) -> bool:
        return False

    def released(self, node: int) -> None:
        return


def body(x: Any = None, n: int = 0) -> Any:
    raise AssertionError("a core runs nothing")


def made(name: str, *, cached: bool = False, **options: Any) -> TaskDefinition:
    """Return a task by name; its results are stored if it is `cached`."""
    return TaskDefinition(
        body, TaskOptions(name=name, key_name=name, cache_policy=INPUTS if cached else None, **options)
    )


def record_of(key: str, digest: str, generation: int = 0, attempt: str = "f" * 17, run: str = "") -> ResultRecord:
    """Return the store's record of a result."""
    return ResultRecord(
        v=1,
        key=key,
        task="t",
        generation=generation,
        attempt=attempt,
        codec="json",
        digest=digest,
        inline=msgspec.Raw(f'"{digest}"'.encode()),
        producer=Producer(run_id=run),
    )


@dataclass
class World:
    """A core and its surroundings. The test scripts what goes wrong."""

    slots: int = 2
    held_back: int = 0
    flights: dict[str, Flight] = field(default_factory=dict)
    """By task name; keys of other tasks need no lock."""
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    around: Any = None

    def __post_init__(self) -> None:
        context = KeyContext("run", {}, None, lambda path: "", lambda pattern: [])
        self.trace = Trace(NoValues(), FlowFrame("flow", context))
        self.held: set[int] = set()
        """Nodes that a future refers to."""
        self.state = RunState(self.trace.graph, held=self.held.__contains__, run_id="run")
        self.core = make_core(
            self.state,
            settings=Settings(store="nowhere", **self.options),
            flight_of=self._flight_of,
            around=self.around,
            rng=random.Random(self.seed),
        )
        self.now = Moment(1_000.0, 0.0)
        self.open = False
        self.bundles: dict[int, Bundle] = {}
        self.stopped: list[int] = []
        self.submissions: list[list[int]] = []
        """The nodes of each bundle that was ever submitted."""
        self.forgotten: list[Any] = []
        self.leases: dict[Hashable, str] = {}
        self.released: list[tuple[Hashable, str]] = []
        self.locked_by_others: set[str] = set()
        self.taken_first: set[str] = set()
        """Keys that look free but are taken by the time they are tried."""
        self.others_have_all = False
        """Another run holds every lock that this run does not."""
        self.broken_flights: dict[str, BaseException] = {}
        self.sizes: dict[str, int] = {}
        """The size in bytes of a task's bundles."""
        self.store: dict[str, ResultRecord] = {}
        self.recipes: list[Any] = []
        self.noted: list[str] = []
        """The tasks whose code was noted."""
        self.watched: set[str] = set()
        self.at_once: dict[str, int] = {}
        self.rates: dict[str, Rate] = {}
        self.starts: dict[str, int] = {}
        """The starts left of each rate."""
        self.timers: list[tuple[float, int, Event]] = []
        self.log: list[log.Event] = []
        self.answered: list[Any] = []
        self.crash: BaseException | None = None
        self.refuse: dict[type, Callable[[Any], BaseException | None]] = {}
        """By question: the function that may refuse it."""
        self.asked: list[Question] = []
        self.silent_locks = False
        """The lock manager does not answer."""
        self.unknown: NoAnswer | None = None
        """The store's answer to everything."""
        self.answers: dict[str | None, Answer] = {}
        """The store's answer for a cache key or a recipe, instead of its content."""
        self._tasks: dict[str, TaskDefinition] = {}
        self._keys = 0

    # -- the flow -------------------------------------------------------------------------------------------------

    def call(self, task: TaskDefinition | str, *inputs: int, n: int = 0, after: tuple[int, ...] = ()) -> int:
        """Call the task with the values of other nodes, and return its node."""
        definition = self._tasks.setdefault(task, made(task)) if isinstance(task, str) else task
        futures = [Future(node, self.trace) for node in inputs]
        future = self.trace.call(definition, (futures, n), {}, wait_for=[Future(node, self.trace) for node in after])
        return future._node

    def big(self, task: TaskDefinition, value: Any) -> int:
        """Call the task with one value, and return its node."""
        return self.trace.call(task, (value,), {})._node

    def extend(self, *want: int, waiter: Any = "run") -> None:
        """Ask for all traced nodes to be run."""
        self.tell(Extend(len(self.state.graph), want, waiter))

    def run(self, *want: int, waiter: Any = "run") -> None:
        """Call `extend`, then take a turn."""
        self.extend(*want, waiter=waiter)
        self.go()

    def _flight_of(self, node: Node) -> Flight:
        if node.name in self.broken_flights:
            raise self.broken_flights[node.name]
        return self.flights.get(node.name, EVERYONE)

    # -- sending events to the core -------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Send an event to the core, and carry out its instructions."""
        following: Event | None = event
        while following is not None:
            assert self.core.asking == isinstance(following, Answered | Refused) or isinstance(following, Broken)
            instructions, following = self.core.handle(following, self.now), None
            for instruction in instructions:
                if isinstance(instruction, Question):
                    assert instruction is instructions[-1]
                    assert self.core.asking
                    following = self._answer(instruction)
                else:
                    self._do(instruction)
        assert not self.core.asking

    def go(self) -> None:
        """Take turns of the loop until no node is ready."""
        while True:
            self.tell(GoOn({"slots": float(self.slots)} if self.open else None))
            if not self.core.has_ready:
                return

    def wake(self, key: str) -> None:
        """Report that a key may be free, and take a turn."""
        self.tell(Woken(key))
        self.go()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and send the timers that are due, in order."""
        until = self.now.monotonic + seconds
        while self.timers and self.timers[0][0] <= until:
            due, _, event = heapq.heappop(self.timers)
            self._move_to(due)
            self.tell(event)
        self._move_to(until)
        self.go()

    def _move_to(self, monotonic: float) -> None:
        self.now = Moment(self.now.at + monotonic - self.now.monotonic, monotonic)

    # -- the engine -----------------------------------------------------------------------------------------------

    def bundle_of(self, node: int) -> Bundle:
        """Return the bundle that the node is in."""
        (bundle,) = [b for b in self.bundles.values() if any(call.node == node for call in b.calls)]
        return bundle

    def start(self, node: int) -> None:
        """Let a worker start the node's bundle."""
        self.tell(Started(self.bundle_of(node).number))

    def end(self, node: int, **how: Any) -> None:
        """End the node's bundle: `how` maps a kind of outcome to its content, the same for each of its calls."""
        self.finish(self.bundle_of(node), {call.node: how for call in self.bundle_of(node).calls})

    def finish(self, bundle: Bundle, hows: Mapping[int, Mapping[str, Any]]) -> None:
        """End the bundle, each node in its own way, and take a turn."""
        del self.bundles[bundle.number]
        outcomes = []
        for call in bundle.calls:
            how = {"kind": "executed", **hows.get(call.node, {})}
            if how["kind"] == "failed" and "failure" not in how:
                how["failure"] = describe(ValueError(f"node {call.node}"))
            if how["kind"] == "executed":
                how = {**self._value(call), **how}
            outcomes.append(Outcome(node=call.node, attempt=call.attempt, **how))
        self.tell(Finished(bundle.number, outcomes))
        self.go()

    def _value(self, call: Any) -> dict[str, Any]:
        node = self.state.graph[call.node]
        if not node.cached:
            return {"handle": f"value {call.node}", "seconds": 0.001, "busy": 0.001}
        key = call.cache_key or f"key of {call.node} found by its worker"
        found = digest_of(key)
        record = self.store[key] = record_of(key, found, attempt=call.attempt_id)
        return {"cache_key": key, "digest": found, "record": record, "seconds": 0.001, "busy": 0.001}

    # -- instructions of the core ---------------------------------------------------------------------------------

    def _do(self, wanted: Instruction) -> None:
        match wanted:
            case do.Tell(event):
                self.log.append(event)
            case do.Answer(waiter):
                self.answered.append(waiter)
            case do.Later(seconds, event):
                self._keys += 1
                heapq.heappush(self.timers, (self.now.monotonic + seconds, self._keys, event))
            case do.StopBundle(number):
                del self.bundles[number]
                self.stopped.append(number)
            case do.ForgetValues(handles):
                assert handles
                self.forgotten += handles
            case do.Release(holder, lock_outcome):
                if self.leases.pop(holder, None) is not None:
                    self.released.append((holder, lock_outcome))
            case do.Waive(node, _):
                self.leases[node] = ""
            case do.Watch(keys):
                self.watched.update(keys)
            case do.NoteRecipe(_, entry, _):
                self.recipes.append(entry)
            case do.NoteTask(entry):
                self.noted.append(entry.task.name)
            case do.Crash(error):
                self.crash = error
            case _:
                raise AssertionError(wanted)

    def _answer(self, question: Question) -> Event:
        self.asked.append(question)
        refuse = self.refuse.get(type(question))
        if refuse is not None and (error := refuse(question)) is not None:
            return Refused(error)
        match question:
            case do.LookUp(queries):
                return Answered([self.look_up(query) for query in queries])
            case do.ReadLimits():
                return Answered(do.InForce(self.at_once, self.rates))
            case do.Acquire(_, wanted, _):
                return Answered({holder: self._lock(holder, key) for holder, key in wanted.items()})
            case do.Borrow(_, held):
                return Answered({node: self._lend(node, holder) for node, holder in held.items()})
            case do.FindFree(permits):
                taken = {*self.leases.values(), *self.locked_by_others}
                return Answered({tag: [key for key in keys if key not in taken] for tag, keys in permits.items()})
            case do.TakeStarts(wanted):
                return Answered({node: self._start(rates) for node, rates in wanted.items()})
            case do.OpenEngine():
                assert not self.open
                self.open = True
                return Answered(do.Opened({"slots": float(self.slots)}, self.held_back))
            case do.Submit(bundle, _):
                return Answered(self._submit(bundle))
            case _:
                raise AssertionError(question)

    def look_up(self, query: Query) -> Answer:
        """Return the store's answer."""
        if self.unknown is not None:
            return self.unknown
        for known in (query.cache_key, query.recipe_key):
            if known in self.answers:
                return self.answers[known]
        found = self.store.get(query.cache_key or "")
        return NoHit("never computed") if found is None else Hit(found.key, found.digest, found)

    def _lock(self, holder: Hashable, key: str) -> Lease | Holder | None:
        mine = self.leases.get(holder)
        if mine is not None:
            return Lease(mine, "session", 1)
        if self.silent_locks:
            return None
        if self.others_have_all or key in self.taken_first | self.locked_by_others or key in self.leases.values():
            return Holder(key, OTHERS, 1, {"run": "other"})
        self.leases[holder] = key
        return Lease(key, "session", 1)

    def _lend(self, node: int, holder: Holder) -> Lease:
        self.leases[node] = holder.key
        return Lease(holder.key, holder.session_id, holder.fencing_token)

    def _start(self, rates: Mapping[str, Rate]) -> str | None:
        for tag in rates:
            if not self.starts.get(tag, 0):
                return tag
        for tag in rates:
            self.starts[tag] -= 1
        return None

    def _submit(self, bundle: Bundle) -> do.Submitted:
        under_way = {call.node for other in self.bundles.values() for call in other.calls}
        nodes = [call.node for call in bundle.calls]
        assert under_way.isdisjoint(nodes), "a node is given to the engine twice"
        self.bundles[bundle.number] = bundle
        self.submissions.append(nodes)
        size = self.sizes.get(self.state.name(nodes[0]), 0)
        return do.Submitted(size, f"promise {nodes[0]}" if bundle.calls[0].promised else None)

    # -- inspection -----------------------------------------------------------------------------------------------

    def states(self) -> dict[int, State]:
        """Return the state of each node that runs."""
        scheduler = self.state.scheduler
        return {node.id: scheduler.state(node.id) for node in self.state.graph if node.id in scheduler}

    def told(self, kind: type) -> list[Any]:
        """Return the events of a kind in the log."""
        return [event for event in self.log if isinstance(event, kind)]
