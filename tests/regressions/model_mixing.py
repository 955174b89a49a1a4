"""Random histories of runs over one store, and a check that the values a run returns can belong to one graph.

Tasks record what they make their values from: some are functions of their inputs, some ignore them, some are random.
After each run, a search tries to assign values to all nodes that it did *not* return, such that each node's value was
once made from the values of its inputs. If there are none, the run mixed values that never belonged together.
"""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from penstock import INPUTS, CacheKey, flow, load_settings, task
from penstock.digests.refs import Ref
from penstock.errors import ValuesChanged
from penstock.graph.graphs import Graph
from penstock.storage.results.maintenance import current_records, gc
from penstock.storage.results.store import ResultStore
from penstock.storage.stores.addresses import open_store

KINDS = ("pure", "pure", "coarse", "random", "random", "whole", "plain", "brief")
GENTLE = ("remove", "refresh", "refresh", "edit")
ROUGH = (*GENTLE, "lose", "collect")


@dataclass(frozen=True)
class Call:
    """One call of a flow: a kind of task, which of several of that kind, and its inputs."""

    kind: str
    constant: int
    inputs: tuple[tuple[int, str], ...]
    """Number of an earlier call, and which part of its result ("" for all of it)."""


class World:
    """What was made from what, by all tasks of a history."""

    def __init__(self) -> None:
        self.made: dict[str, set[tuple[str, ...]]] = {}
        self.versions: dict[str, int] = {}
        self._draws = itertools.count()
        self._tasks: dict[tuple[str, int], Any] = {}

    def task(self, call: Call) -> Any:
        name = f"{call.kind} {call.constant}"
        version = self.versions.setdefault(name, 0)
        if (name, version) not in self._tasks:
            self._tasks[name, version] = self._new_task(name, call.kind, version)
        return self._tasks[name, version]

    def _new_task(self, name: str, kind: str, version: int) -> Any:
        def work(inputs: list[Any]) -> Any:
            return self._make(f"{name} v{version}", kind, tuple(identity(value) for value in inputs))

        policy = None if kind == "plain" else INPUTS + CacheKey(str(version))
        options = {"cache_expiration": timedelta(0)} if kind == "brief" else {}
        codec = None if kind in ("pure", "plain") else "compressed/json"  # not in the record, so that bytes can be lost
        return task(work, name=name, key_name=name, cache_policy=policy, result_serializer=codec, **options)

    def _make(self, name: str, kind: str, inputs: tuple[str, ...]) -> Any:
        value = f"{name}({', '.join(inputs)})"
        if kind == "coarse":
            value = f"{name}({len(inputs)})"
        elif kind in ("random", "whole", "plain", "brief"):
            value += f"#{next(self._draws)}"
        self.made.setdefault(value, set()).add(inputs)
        if kind != "whole":
            return value
        parts = {name: f"{value}.{name}" for name in "ab"}
        for part in parts.values():
            self.made[part] = {(value,)}
        return {"identity": value, **parts}


def identity(value: Any) -> str:
    return value["identity"] if isinstance(value, dict) else value


@dataclass
class History:
    """A store, flows that share tasks, and what happens to them, all determined by a seed."""

    seed: int
    rng: random.Random = field(init=False)
    world: World = field(default_factory=World)
    told: list[str] = field(default_factory=list)
    """What happened, for the reader of a failure."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.settings = load_settings(
            cwd="/",  # a folder without a project file, so that none is read for each history
            overrides={"store": f"memory://mixing-{uuid.uuid4()}", "runner": "threads?workers=1", "locks": "memory"},
        )
        self.results = ResultStore(open_store(self.settings.store))
        self.gentle = self.rng.random() < 0.5
        """Whether stored bytes are never lost, so that no run has a reason to give up."""
        self.flows = [self._calls([])]
        self.flows.append(self._calls(self.flows[0][: self.rng.randint(1, len(self.flows[0]))]))

    def beside(self, seed: int) -> History:
        """Return a history of the same flows over the same store, for a driver in another thread."""
        other = History(seed, world=self.world)
        other.settings, other.results, other.flows, other.gentle = self.settings, self.results, self.flows, self.gentle
        return other

    def _calls(self, begun: list[Call]) -> list[Call]:
        calls, rng = list(begun), self.rng
        for number in range(len(calls), rng.randint(3, 8)):
            count = min(number, rng.choice((0, 1, 1, 1, 2, 2, 3)))
            taken = rng.sample(range(max(0, number - 4), number), min(count, 4))
            inputs = tuple((n, rng.choice(("", "a", "b")) if calls[n].kind == "whole" else "") for n in taken)
            calls.append(Call(rng.choice(KINDS), rng.randrange(2), inputs))
        return calls

    def play(self, steps: int) -> None:
        for _ in range(steps):
            if self.rng.random() < 0.5:
                self._run(self.rng.choice(self.flows), refresh=None, during=self.rng.random() < 0.3)
            else:
                self._happen()

    def _happen(self) -> None:
        rng = self.rng
        what = rng.choice(GENTLE if self.gentle else ROUGH)
        self.told.append(what)
        if what == "collect":
            gc(self.results, grace_seconds=0)
        elif what == "edit" and self.world.versions:
            self.world.versions[rng.choice(sorted(self.world.versions))] += 1
        elif what == "refresh":
            calls = rng.choice(self.flows)
            self._run(calls, refresh=rng.randrange(len(calls)), during=False)
        elif what in ("remove", "lose"):
            for record in sorted(current_records(self.results), key=lambda each: (each.task, each.created)):
                if rng.random() < 0.3:
                    self.told[-1] += f" {record.task}"
                    if what == "remove":
                        self.results.invalidate(record.task, record.key)
                    elif record.payload_name is not None:
                        self.results.store.delete(record.payload_name)

    # -- runs ---------------------------------------------------------------------------------------------------------

    def _run(self, calls: list[Call], *, refresh: int | None, during: bool) -> None:
        handed: list[tuple[int, Any]] = []
        last = len(calls) if refresh is None or self.rng.random() < 0.4 else refresh + 1
        twice = self.rng.random() < 0.5  # the refreshed call is also made before that
        self.told.append(f"run {self.flows.index(calls)}" + ("" if refresh is None else f" refreshing {refresh}"))

        syncs = self.rng.random() < 0.5

        def body() -> list[Any]:
            futures: list[Any] = []
            for number, call in enumerate(calls[:last]):
                definition = self.world.task(call)
                sources = [self.rng.choice(futures[n]) for n, _ in call.inputs]
                taken = [each[part] if part else each for each, (_, part) in zip(sources, call.inputs, strict=True)]
                if number == refresh and call.kind != "plain":
                    futures.append([definition.submit(taken)] if twice else [])
                    futures[-1].append(definition.with_options(refresh_cache=True).submit(taken))
                else:
                    futures.append([definition.submit(taken)])
                del taken, sources
                if syncs and self.rng.random() < 0.3:
                    asked = self.rng.choice(self.rng.choice(futures))
                    handed.append((asked._node, asked.result()))
                    del asked
                    if during:
                        in_another_driver(self._happen)
            returned = [future for each in futures for future in each if self.rng.random() < 0.4]
            nodes.extend(future._node for future in returned)
            return returned

        nodes: list[int] = []
        run = flow(body, name="history").run_with({}, settings=self.settings)
        if isinstance(run.error, ValuesChanged):
            assert not self.gentle, f"mixed, had it gone on: {run.error} after {self.told}"
            self.told[-1] += ": values changed under it, and it said so"
        else:
            handed += zip(nodes, run.result(), strict=True)
        check(run.graph, handed, self.world, self.told)


def in_another_driver(action: Callable[[], None]) -> None:
    """Do it in another driver: in a thread where no flow is traced."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(action).result()


def check(graph: Graph, handed: list[tuple[int, Any]], world: World, told: list[str]) -> None:
    values: dict[int, str] = {}
    for node, value in handed:
        assert values.setdefault(node, identity(value)) == identity(value), f"node {node} has two values: {told}"
    assert belong_together(graph, values, world.made), f"mixed: {values} after {told}"


def belong_together(graph: Graph, values: dict[int, str], made: dict[str, set[tuple[str, ...]]]) -> bool:
    """Tell whether the nodes without a value can be given one, so that each value was made from those of its inputs."""
    assigned = dict(values)

    def explained(node: int) -> bool:
        if node < 0:
            return True
        if node not in assigned:
            return explained(node - 1)  # any value will do: nothing that was returned was made from it
        inputs = inputs_of(graph, node)
        for once in tuple(made[assigned[node]]):  # another driver may add to them
            if len(once) != len(inputs):
                continue
            new = {dep: value for dep, value in zip(inputs, once, strict=True) if dep not in assigned}
            assigned.update(new)
            if all(assigned[dep] == value for dep, value in zip(inputs, once, strict=True)) and explained(node - 1):
                return True
            for dep in new:
                del assigned[dep]
        return False

    return explained(len(graph) - 1)


def inputs_of(graph: Graph, node: int) -> list[int]:
    """Return the inputs of a call in the order of its arguments."""
    if graph[node].entry.task.derived:
        return list(graph[node].deps)
    return [ref.node for ref in graph[node].arguments["inputs"] if isinstance(ref, Ref)]
