"""What a call inside a flow adds to the graph, and how a future stands for its value."""

from __future__ import annotations

import asyncio
import copy
import gc
import math
import operator
import os
import pickle
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from penstock.digests.refs import Ref
from penstock.errors import CycleError, DigestError, ParameterError, TaskTimeout, TracingError
from penstock.graph import futures
from penstock.graph.arguments import capture, fill, replace_futures
from penstock.graph.futures import Future, FutureList, WaitedInVain
from penstock.graph.graphs import Graph, Node
from penstock.graph.keys import KeyContext
from penstock.graph.policies import INPUTS, RUN_ID
from penstock.graph.tasks import TaskDefinition, TaskOptions
from penstock.graph.tracing import FlowFrame, Trace, current_trace, tracing


class Scripted:
    """Values of nodes by number, with a record of every request for one."""

    def __init__(self) -> None:
        self.known: dict[int, Any] = {}
        self.asked: list[int] = []
        self.let_go: list[int] = []

    def value(self, node: int, timeout: float | None) -> Any:
        self.asked.append(node)
        found = self.known[node]
        if isinstance(found, BaseException):
            raise found
        return found

    def wait(self, node: int, timeout: float | None) -> None:
        self.asked.append(node)

    def settled(self, node: int) -> bool:
        return node in self.known

    def failed(self, node: int) -> bool:
        return isinstance(self.known.get(node), BaseException)

    def released(self, node: int) -> None:
        self.let_go.append(node)


@pytest.fixture
def values() -> Scripted:
    return Scripted()


@pytest.fixture
def trace(values: Scripted) -> Trace:
    return Trace(values, frame("flow"))


def frame(name: str, **options: Any) -> FlowFrame:
    return FlowFrame(name, KeyContext("run", {}, name, lambda path: "", lambda pattern: []), **options)


def body(x: Any = None, *more: Any, **rest: Any) -> Any:
    raise AssertionError("tracing runs nothing")


def task(name: str = "work", **options: Any) -> TaskDefinition:
    return TaskDefinition(body, TaskOptions(name=name, key_name=name, **options))


PLAIN = task()
CACHED = task("cached", cache_policy=INPUTS)


@pytest.fixture
def holding(trace: Trace, values: Scripted) -> Callable[[Any], Future[Any]]:
    """Return futures of new nodes that have these values."""

    def make(value: Any) -> Future[Any]:
        future = trace.call(PLAIN, (), {})
        values.known[future._node] = value
        return future

    return make


Holding = Callable[[Any], Future[Any]]


# -- passing futures on -----------------------------------------------------------------------------------------------


def test_passing_a_future_adds_an_edge_without_waiting(trace: Trace, values: Scripted) -> None:
    first = trace.call(PLAIN, (1,), {})
    second = trace.call(PLAIN, (first,), {})
    node = trace.graph[second._node]
    assert node.deps == (first._node,)
    assert node.arguments["x"] == Ref(first._node)
    assert values.asked == []


@dataclass
class Config:
    model: Any
    layers: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Frozen:
    model: Any


Pair = namedtuple("Pair", "left right")


class Bunch(dict[str, Any]):
    """A container class of the user."""


@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: [f],
        lambda f: (f, 1),
        lambda f: {"a": f},
        lambda f: {f: "key"},
        lambda f: {f},
        lambda f: frozenset([f]),
        lambda f: [{"a": ([{"b": (f,)}],)}],
        lambda f: Pair(1, f),
        lambda f: OrderedDict(a=[f]),
        lambda f: defaultdict(list, {"a": [f]}),
        lambda f: Bunch(a=f),
        lambda f: deque([1, f], maxlen=5),
        lambda f: Config(f),
        lambda f: Config(1, [f]),
        lambda f: Frozen({"deep": f}),
        lambda f: FutureList([f]),
    ],
)
def test_futures_are_found_in_all_containers(holding: Holding, trace: Trace, wrap: Callable[[Any], Any]) -> None:
    first = holding(5)  # sets and dictionary keys hash it
    original = wrap(first)
    node = trace.graph[trace.call(PLAIN, (original,), {})._node]
    assert node.deps == (first._node,)
    filled = fill(node.arguments["x"], lambda ref: f"value {ref.node}")
    assert filled == wrap(f"value {first._node}")
    assert replace_futures(original, lambda f: f"value {f._node}") == filled
    if not isinstance(original, FutureList):
        assert type(filled) is type(original)


def test_a_task_receives_a_mapped_list_of_futures_as_a_plain_list(trace: Trace) -> None:
    futures = FutureList([trace.call(PLAIN, (n,), {}) for n in range(3)])
    node = trace.graph[trace.call(PLAIN, (futures,), {})._node]
    assert type(node.arguments["x"]) is list
    assert type(replace_futures(FutureList([]), lambda f: f)) is list


def test_cyclic_objects_are_passed_on(trace: Trace) -> None:
    loop = Config(None)
    loop.model = loop
    node = trace.graph[trace.call(PLAIN, (loop,), {})._node]
    kept = node.arguments["x"]
    assert kept.model is kept


def test_an_input_used_twice_is_one_edge(trace: Trace) -> None:
    first = trace.call(PLAIN, (), {})
    node = trace.graph[trace.call(PLAIN, ([first, first], first), {})._node]
    assert node.deps == (first._node,)


def test_futures_in_positional_named_and_variadic_arguments_are_inputs(trace: Trace) -> None:
    a, b, c = (trace.call(PLAIN, (n,), {}) for n in range(3))
    node = trace.graph[trace.call(PLAIN, (a, b), {"extra": c})._node]
    assert set(node.deps) == {a._node, b._node, c._node}


def test_a_future_of_another_run_stands_for_its_value(trace: Trace) -> None:
    other_values = Scripted()
    other_values.known[0] = 5
    foreign = Trace(other_values, frame("other")).call(PLAIN, (), {})
    node = trace.graph[trace.call(PLAIN, (foreign,), {})._node]
    assert node.arguments["x"] == 5
    assert node.deps == ()


# -- arguments are captured at the call -------------------------------------------------------------------------------


def test_changing_a_container_after_the_call_changes_nothing(trace: Trace) -> None:
    items: dict[str, Any] = {"list": [1, [2]], "set": {1}}
    node = trace.graph[trace.call(PLAIN, (items,), {})._node]
    items["list"][1].append(99)
    items["set"].add(99)
    items["more"] = 99
    assert node.arguments["x"] == {"list": [1, [2]], "set": {1}}


@pytest.mark.needs("numpy")
def test_changing_an_array_after_the_call_changes_nothing(trace: Trace) -> None:
    import numpy

    array = numpy.arange(3)
    node = trace.graph[trace.call(PLAIN, ([array],), {})._node]
    array[0] = 99
    assert node.arguments["x"][0].tolist() == [0, 1, 2]


@pytest.mark.needs("pandas")
def test_changing_a_data_frame_after_the_call_changes_nothing(trace: Trace) -> None:
    import pandas

    data = pandas.DataFrame({"a": [1, 2]})
    node = trace.graph[trace.call(PLAIN, (data,), {})._node]
    data.loc[0, "a"] = 99
    assert node.arguments["x"]["a"].tolist() == [1, 2]


def test_changing_a_bytearray_after_the_call_changes_nothing(trace: Trace) -> None:
    data = bytearray(b"ab")
    node = trace.graph[trace.call(PLAIN, (data,), {})._node]
    data[0] = 0
    assert node.arguments["x"] == b"ab"


@pytest.mark.parametrize(
    "stream", [(n for n in range(3)), iter([1, 2]), map(str, [1]), zip([1], [2], strict=True), reversed([1])]
)
def test_a_value_that_can_be_read_only_once_is_refused_unread(trace: Trace, stream: Any) -> None:
    with pytest.raises(TracingError, match="read only once"):
        trace.call(PLAIN, ([stream],), {})
    assert len(trace.graph) == 0


def test_a_refused_generator_is_not_consumed(trace: Trace) -> None:
    numbers = (n for n in range(3))
    with pytest.raises(TracingError):
        trace.call(PLAIN, (numbers,), {})
    assert list(numbers) == [0, 1, 2]


def test_arguments_that_do_not_match_the_signature_are_refused_at_the_call(trace: Trace) -> None:
    strict = TaskDefinition(lambda x: x, TaskOptions(name="strict", key_name="strict"))
    with pytest.raises(ParameterError):
        trace.call(strict, (1, 2), {})
    assert len(trace.graph) == 0


def test_a_value_without_a_digest_is_refused_at_the_call_of_a_cached_task(trace: Trace) -> None:
    import threading

    with pytest.raises(DigestError):
        trace.call(CACHED, (threading.Lock(),), {})
    assert len(trace.graph) == 0
    trace.call(PLAIN, (threading.Lock(),), {})  # an uncached task has no key


# -- using the value --------------------------------------------------------------------------------------------------


USES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "if": (0, lambda f: "yes" if f else "no"),
    "not": ([], operator.not_),
    "for": ([1, 2], lambda f: [2 * each for each in f]),
    "unpacking": ((1, 2), lambda f: dict(zip("ab", f, strict=True))),
    "len": ("abc", len),
    "in": ([1, 2], lambda f: 2 in f),
    "==": (5, lambda f: f == 5),
    "!=": (5, lambda f: f != 5),
    "<": (5, lambda f: f < 6),
    ">": (5, lambda f: f > 6),
    "<=": (5, lambda f: f <= 5),
    "+": (5, lambda f: f + 1),
    "reflected +": (5, lambda f: 1 + f),
    "-": (5, lambda f: 1 - f),
    "*": ("ab", lambda f: f * 2),
    "/": (5, lambda f: f / 2),
    "//": (5, lambda f: 11 // f),
    "%": (5, lambda f: f % 3),
    "**": (2, lambda f: 3**f),
    "divmod": (5, lambda f: divmod(f, 2)),
    "reflected divmod": (5, lambda f: divmod(11, f)),
    "negation": (5, lambda f: -f),
    "abs": (-5, abs),
    "~": (5, lambda f: ~f),
    "&": (5, lambda f: f & 4),
    "|": (5, lambda f: 2 | f),
    "<<": (5, lambda f: f << 1),
    "round": (2.567, lambda f: round(f, 1)),
    "int": (5.9, int),
    "float": (5, float),
    "complex": (5, complex),
    "str": (5, str),
    "bytes": (b"ab", bytes),
    "f-string": (5, lambda f: f"{f:>4}|{f}"),
    "format": (5.0, lambda f: format(f, ".2f")),
    "%-format": (5, lambda f: "%s" % f),  # noqa: UP031 (is under test)
    "index": (1, lambda f: [10, 20][f]),
    "range": (3, lambda f: list(range(f))),
    "reversed": ([1, 2], lambda f: list(reversed(f))),
    "sum": ([1, 2], sum),
    "sorted": ([2, 1], sorted),
    "call": (len, lambda f: f([1, 2])),
    "path": ("/tmp", os.fspath),
    "floor": (2.5, math.floor),
    "ceil": (2.5, math.ceil),
    "trunc": (2.5, math.trunc),
}


@pytest.mark.parametrize("use", USES)
def test_using_a_future_as_a_value_gives_the_result_of_the_value(holding: Holding, values: Scripted, use: str) -> None:
    value, how = USES[use]
    future = holding(value)
    assert how(future) == how(value)
    assert values.asked != []


def test_futures_can_be_combined_in_arithmetic_and_comparison(holding: Holding) -> None:
    assert holding(2) + holding(3) == 5
    assert holding(2) < holding(3)
    assert holding([1]) + holding([2]) == [1, 2]
    assert holding("a") == holding("a")


@pytest.mark.needs("numpy")
def test_numpy_accepts_a_future_as_its_value(holding: Holding) -> None:
    import numpy

    future = holding(numpy.arange(3))
    assert numpy.sum(numpy.asarray(future)) == 3
    assert (future + numpy.ones(3)).tolist() == [1.0, 2.0, 3.0]


def test_repr_never_waits_and_shows_what_is_known(trace: Trace, values: Scripted) -> None:
    future = trace.call(PLAIN, (), {})
    assert repr(future) == "Future(work, node 0, not here yet)"
    assert repr([future]) == "[Future(work, node 0, not here yet)]"
    values.known[0] = 5
    assert repr(future) == "Future(work, node 0, done)"
    assert values.asked == []


def test_debuggers_and_copies_of_a_future_add_no_node(trace: Trace) -> None:
    future = trace.call(PLAIN, (), {})
    for name in ("_repr_html_", "__deepcopy__", "_ipython_display_", "__array_interface__", "__wrapped__"):
        assert not hasattr(future, name)
    for unwanted in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="belongs to its run"):
            unwanted(future)
    assert len(trace.graph) == 1


def test_futures_hash_like_their_values(holding: Holding) -> None:
    days: dict[Any, list[str]] = {}
    for size, day in ((10, "a"), (5, "b"), (10, "c")):
        days.setdefault(holding(size), []).append(day)
    assert days == {10: ["a", "c"], 5: ["b"]}
    assert Counter([holding(10), holding(10)]) == {10: 2}
    assert holding(10) in {10}


def test_the_error_for_a_future_of_an_unhashable_value_says_what_to_do(holding: Holding) -> None:
    with pytest.raises(TypeError, match=r"cannot hash Future\(work, node 0, done\), .* like its value.*\.result\(\)"):
        hash(holding([1]))


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.append(3),
        lambda f: f.__setitem__(0, 3),
        lambda f: f.__delitem__(0),
        lambda f: setattr(f, "name", 3),
        lambda f: delattr(f, "name"),
    ],
)
def test_a_value_cannot_be_changed_through_its_future(
    trace: Trace, values: Scripted, holding: Holding, change: Callable[[Any], Any]
) -> None:
    future = holding([1, 2])
    values.known[1] = values.known[0].append  # of the part that is called
    with pytest.raises(TracingError, match=r"value of your own with \.result\(\)"):
        change(future)


def test_methods_that_change_nothing_can_be_called(values: Scripted, holding: Holding) -> None:
    future, other = holding([1, 2]), holding(2)
    values.known[2] = values.known[0].index
    assert future.index(other) == 1


def test_augmented_assignment_makes_a_new_value(values: Scripted, holding: Holding) -> None:
    future = longer = holding([1, 2])
    longer += [3]
    assert longer == [1, 2, 3]
    assert values.known[future._node] == [1, 2]


def test_gathered_futures_are_distinguished_without_their_values(holding: Holding, values: Scripted) -> None:
    async def gather() -> Any:
        return await asyncio.gather(holding([1]), holding([2]))

    assert asyncio.run(gather()) == [[1], [2]]


async def fetched(x: int) -> int:
    return x


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrap", [lambda c: c, lambda c: [c], lambda c: {"a": c}])
def test_the_error_for_a_coroutine_argument_says_to_await_it(trace: Trace, wrap: Callable[[Any], Any]) -> None:
    with pytest.raises(TracingError, match=r"await it: pass `await fetched\(\.\.\.\)`"):
        trace.call(PLAIN, (wrap(fetched(1)), fetched(2)), {})
    gc.collect()


@pytest.mark.needs("pandas")
def test_tables_keep_their_labels_when_combined_with_a_future(holding: Holding) -> None:
    import numpy
    import pandas

    series = pandas.Series([1, 2], index=[1, 2])
    added = pandas.Series([1, 1], index=[2, 1]) + holding(series)
    assert added.to_dict() == {1: 2, 2: 3}
    assert numpy.sqrt(holding(series)).index.tolist() == [1, 2]


def test_a_library_that_tries_to_create_a_future_gets_a_clear_error() -> None:
    with pytest.raises(TypeError, match="cannot be created from a value"):
        Future(4)


def test_items_and_attributes_are_lazy_nodes(trace: Trace, values: Scripted) -> None:
    future = trace.call(PLAIN, (), {})
    item, attribute, deep = future["a"], future.name, future["a"][0].b
    assert [type(f) for f in (item, attribute, deep)] == [Future] * 3
    assert values.asked == []
    assert trace.graph[item._node].deps == (future._node,)
    assert all(trace.graph[f._node].entry.task.derived for f in (item, attribute, deep))


def test_a_slice_of_a_cached_result_is_a_lazy_node_with_a_recipe(trace: Trace) -> None:
    future = trace.call(CACHED, (1,), {})
    assert trace.graph[future[1:3]._node].recipe_key is not None
    assert future[1:3]._node == future[1:3]._node
    assert future[1:3]._node != future[1:4]._node


def test_an_unused_part_is_not_a_target(trace: Trace) -> None:
    future = trace.call(PLAIN, (), {})
    hasattr(future, "something")
    assert [node.name for node in trace.graph] == ["work", "attribute"]
    assert trace.graph.targets() == [0]  # the task still runs for its effect


def test_using_a_part_of_a_result_uses_the_result(trace: Trace) -> None:
    part = trace.call(PLAIN, (), {})["a"][0]
    assert trace.graph.targets() == [0]
    trace.call(PLAIN, (part,), {})
    assert trace.graph.targets() == [3]


def test_holding_a_part_of_a_value_holds_the_value(trace: Trace, values: Scripted) -> None:
    part = trace.call(PLAIN, (), {})["a"].b
    assert trace.held(0)
    del part
    assert values.let_go == [2, 1, 0]


def test_result_returns_the_value_or_raises_the_tasks_exception(holding: Holding) -> None:
    future = holding(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        future.result()
    assert isinstance(future.result(raise_on_failure=False), ValueError)


def test_a_timeout_while_waiting_is_not_a_result(holding: Holding) -> None:
    late, timed_out = holding(WaitedInVain("no value yet")), holding(TaskTimeout("ran too long"))
    with pytest.raises(TimeoutError, match="no value yet"):
        late.result(timeout=0.1, raise_on_failure=False)
    assert isinstance(timed_out.result(raise_on_failure=False), TaskTimeout)


def test_done_does_not_wait(trace: Trace, values: Scripted) -> None:
    future = trace.call(PLAIN, (), {})
    assert not future.done()
    values.known[future._node] = 5
    assert future.done()
    assert values.asked == []


class Watched(dict[int, int]):
    """Counts of futures that note what is taken out of them, however shortly."""

    def __init__(self, counts: dict[int, int]) -> None:
        super().__init__(counts)
        self.taken: list[int] = []

    def __delitem__(self, node: int) -> None:
        self.taken.append(node)
        super().__delitem__(node)


def test_a_node_is_held_at_every_moment_while_one_of_its_two_futures_goes(trace: Trace) -> None:
    one = trace.call(PLAIN, (1,), {})
    other = Future(one._node, trace)
    counts = trace._living.counts = Watched(trace._living.counts)
    del other
    assert counts.taken == []
    del one
    assert counts.taken == [0]


def test_a_node_is_held_as_long_as_one_of_its_futures_lives(trace: Trace, values: Scripted) -> None:
    future = trace.call(CACHED, (1,), {})
    twin = trace.call(CACHED, (1,), {})
    assert twin._node == future._node
    del twin
    assert trace.held(0)
    del future
    assert not trace.held(0)
    assert values.let_go == [0]


# -- order ------------------------------------------------------------------------------------------------------------


def test_wait_for_orders_without_passing_a_value(trace: Trace) -> None:
    first = trace.call(PLAIN, (), {})
    node = trace.graph[trace.call(PLAIN, (), {}, wait_for=[first])._node]
    assert (node.deps, node.order) == ((), (first._node,))


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: [f], lambda f: [[f], {"a": f}], lambda f: FutureList([f])])
def test_wait_for_accepts_futures_alone_and_in_containers(trace: Trace, wrap: Callable[[Any], Any]) -> None:
    first = trace.call(PLAIN, (), {})
    assert trace.graph[trace.call(PLAIN, (), {}, wait_for=wrap(first))._node].order == (first._node,)


def test_waiting_for_an_input_adds_no_second_edge(trace: Trace) -> None:
    first = trace.call(PLAIN, (), {})
    node = trace.graph[trace.call(PLAIN, (first,), {}, wait_for=[first])._node]
    assert (node.deps, node.order) == ((first._node,), ())


def test_a_node_that_others_wait_for_is_still_a_target(trace: Trace) -> None:
    first = trace.call(PLAIN, (), {})
    trace.call(PLAIN, (), {}, wait_for=[first])
    assert trace.graph.targets() == [0, 1]


@pytest.mark.parametrize("needed", [0, 1, 7, -1])
def test_a_node_cannot_wait_for_itself_or_a_later_one(needed: int) -> None:
    trace = Trace(Scripted(), frame("flow"))
    graph, entry = Graph(), trace._entry(PLAIN)
    with pytest.raises(CycleError):
        graph.add(entry, {}, order=(needed,))
    with pytest.raises(CycleError):
        graph.add(entry, {}, deps=(needed,))
    assert len(graph) == 0


# -- nodes and their keys ---------------------------------------------------------------------------------------------


def added(trace: Trace, definition: TaskDefinition, *args: Any) -> Node:
    return trace.graph[trace.call(definition, args, {})._node]


def test_equal_cached_calls_are_one_node_and_uncached_ones_are_two(trace: Trace) -> None:
    assert added(trace, CACHED, 1) is added(trace, CACHED, 1)
    assert added(trace, CACHED, 1) is not added(trace, CACHED, 2)
    assert added(trace, PLAIN, 1) is not added(trace, PLAIN, 1)


def test_a_call_with_wait_for_or_a_refresh_is_a_separate_node(trace: Trace) -> None:
    first = trace.call(PLAIN, (), {})
    nodes = {
        trace.call(CACHED, (1,), {})._node,
        trace.call(CACHED, (1,), {}, wait_for=[first])._node,
        trace.call(CACHED.with_options(refresh_cache=True), (1,), {})._node,
    }
    assert len(nodes) == 3


def test_equal_calls_that_wait_for_the_same_node_are_one_node(trace: Trace) -> None:
    first = trace.call(PLAIN, (), {})
    waiting = trace.call(CACHED, (1,), {}, wait_for=[first])._node
    assert trace.call(CACHED, (1,), {}, wait_for=[first])._node == waiting


def test_only_calls_after_a_refresh_use_its_result(trace: Trace) -> None:
    before = trace.call(CACHED, (1,), {})
    refreshed = trace.call(CACHED.with_options(refresh_cache=True), (1,), {})
    after = trace.call(CACHED, (1,), {})
    assert (after._node, after._node != before._node) == (refreshed._node, True)
    below = [trace.call(CACHED, (each,), {})._node for each in (before, refreshed, after)]
    assert below[0] != below[1] == below[2]


def test_each_refreshing_call_is_a_separate_node(trace: Trace) -> None:
    refreshing = CACHED.with_options(refresh_cache=True)
    assert trace.call(refreshing, (1,), {})._node != trace.call(refreshing, (1,), {})._node


def test_keys_of_calls_on_futures_are_known_from_the_graph(trace: Trace) -> None:
    first = trace.call(CACHED, (1,), {})
    below = added(trace, CACHED, first)
    assert below.cache_key is None
    assert below.recipe_key is not None
    assert below.recipe_key == added(trace, CACHED, trace.call(CACHED, (1,), {})).recipe_key
    assert below.recipe_key != added(trace, CACHED, trace.call(CACHED, (2,), {})).recipe_key


def test_nothing_below_an_uncached_call_has_a_recipe(trace: Trace) -> None:
    below = trace.call(CACHED, (trace.call(PLAIN, (1,), {}),), {})
    last = added(trace, CACHED, below)
    assert trace.graph[below._node].recipe_key is None
    assert last.recipe_key is None
    assert last.cached


def test_a_recipe_below_a_key_of_the_run_is_private_to_the_run() -> None:
    keyed = task("keyed", cache_policy=INPUTS + RUN_ID)

    def recipe(run_id: str) -> str | None:
        context = KeyContext(run_id, {}, "flow", lambda path: "", lambda pattern: [])
        trace = Trace(Scripted(), FlowFrame("flow", context))
        return added(trace, CACHED, trace.call(keyed, (1,), {})).recipe_key

    assert recipe("a") == recipe("a")
    assert recipe("a") != recipe("b")


# -- nested flows -----------------------------------------------------------------------------------------------------


def test_calls_belong_to_the_innermost_flow(trace: Trace) -> None:
    with tracing(trace):
        assert current_trace() is trace
        with trace.inside(frame("inner", persist_result=True)):
            inner = added(trace, PLAIN, 1)
        outer = added(trace, PLAIN, 1)
    assert current_trace() is None
    assert (inner.entry.flow, outer.entry.flow) == ("inner", "flow")
    assert inner.cached
    assert not outer.cached


def test_gathered_subflows_keep_their_calls_apart(trace: Trace) -> None:
    import asyncio

    async def inner(name: str, turns: int) -> list[str]:
        flows = []
        with trace.inside(frame(name)):
            for _ in range(turns):
                flows.append(added(trace, PLAIN).entry.flow)
                await asyncio.sleep(0)
        return flows

    async def outer() -> Any:
        with tracing(trace):
            found = await asyncio.gather(inner("a", 3), inner("b", 1), inner("c", 2))
            return [*found, [added(trace, PLAIN).entry.flow]]

    assert asyncio.run(outer()) == [["a"] * 3, ["b"], ["c"] * 2, ["flow"]]


def test_a_separate_run_inside_a_subflow_has_its_own_frames(trace: Trace) -> None:
    other = Trace(Scripted(), frame("other"))
    with tracing(trace), trace.inside(frame("inner")):
        with tracing(other):
            assert added(other, PLAIN).entry.flow == "other"
        with tracing(None):
            assert current_trace() is None
        assert added(trace, PLAIN).entry.flow == "inner"


# -- walking ----------------------------------------------------------------------------------------------------------


def test_walking_leaves_other_objects_unchanged() -> None:
    thing = object()
    value = [thing, {"a": Counter("ab")}, Bunch(b=[1])]
    walked = replace_futures(value, lambda f: pytest.fail("there is none"))
    assert walked == value
    assert walked[0] is thing
    assert walked[2] is value[2]
    assert capture(range(3), lambda f: f) == range(3)


class Slow:
    """A source whose values take four seconds each, on a fake clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.given: list[float | None] = []
        self.own_values: dict[int, Any] = {}

    def monotonic(self) -> float:
        return self.now

    def hold(self, node: int) -> None:
        pass

    def let_go(self, node: int) -> None:
        pass

    def wait(self, node: int, timeout: float | None) -> None:
        self.given.append(timeout)
        self.now += 4.0 if timeout is None else min(4.0, timeout)

    def value(self, node: int, timeout: float | None) -> int:
        self.wait(node, timeout)
        return node


def test_a_list_of_futures_shares_one_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    source: Any = Slow()
    monkeypatch.setattr(futures, "time", source)
    three: Any = FutureList([Future(node, source) for node in range(3)])
    three.wait(10)
    assert source.given == [10, 6, 2]
    assert source.now == 110
    three.wait(5)
    assert source.given[3:] == [5, 1, 0]
    three.wait()
    assert source.given[6:] == [None] * 3
    assert three.result(9) == [0, 1, 2]
    assert source.given[9:] == [9, 5, 1]
