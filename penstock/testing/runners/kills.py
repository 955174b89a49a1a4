"""Tests of runners: random flows give the values of a model while their worker processes are killed.

    class TestKills(KillTests):
        def make_runner(self, workers):
            return MyRunner(workers)

        def worker_pids(self):
            return children_named("my_worker")    # the processes that perform calls now

Every call leaves a mark with its process id when its function starts, and notes whether its result was already
published. So the checks are exact, whatever is killed:

* each value is that of the model;
* no function starts while the result of its key is published;
* a function starts again only if a process in which it had started was killed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import random
import signal
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import msgspec
import pytest

from penstock.digests.python import digest
from penstock.graph.policies import INPUTS, IsolationLevel
from penstock.settings import load_settings
from penstock.storage import open_store
from penstock.tasks import Task, task
from penstock.testing.runners import tasks
from penstock.testing.runners.support import RunnerBench

LARGE = 100_000
"""The number of characters of a value that engines do not send inside messages."""
FLOWS = int(os.environ.get("PENSTOCK_KILL_FLOWS", "0"))
LONGEST_NAP = 0.02
LONGEST_WAIT = 0.15
"""The longest wait before a kill, in seconds."""


# -- the random flow and its model


@dataclass(frozen=True)
class Step:
    """One call: its task, the earlier steps that are its inputs, and a label that makes it unique."""

    kind: str
    inputs: tuple[int, ...]
    label: int
    large: bool
    nap: float
    look: bool
    """Whether the flow uses its value before it continues."""


def random_steps(rng: random.Random) -> list[Step]:
    """Return random steps: chains, fan-outs with joins, single calls, and repeated calls."""
    steps: list[Step] = []

    def add(inputs: tuple[int, ...]) -> int:
        kind = rng.choice(("plain", "cached", "cached", "locked"))
        large, nap, look = rng.random() < 0.3, rng.random() * LONGEST_NAP, rng.random() < 0.1
        steps.append(Step(kind, inputs, len(steps), large, nap, look))
        return len(steps) - 1

    def some() -> tuple[int, ...]:
        return tuple(rng.sample(range(len(steps)), min(len(steps), rng.randint(0, 3))))

    for _ in range(rng.randint(2, 4)):
        shape = rng.choice(("chain", "fan-out", "single", "again"))
        if shape == "chain":
            last = add(some())
            for _ in range(rng.randint(2, 6)):
                last = add((last,))
        elif shape == "fan-out":
            top = add(some())
            add(tuple(add((top,)) for _ in range(rng.randint(3, 10))))
        elif shape == "again" and (cached := [step for step in steps if step.kind != "plain"]):
            steps.append(rng.choice(cached))
        else:
            add(some())
    return steps


def come_to(inputs: list[Any], label: int, large: bool) -> Any:
    """Return the value of a call: a number, or a text that is too long for an engine's messages."""
    total = (sum(each if isinstance(each, int) else len(each) for each in inputs) + label) % 100_003
    return "y" * (LARGE + total % 7) if large else total


def expected_of(steps: list[Step]) -> list[Any]:
    """Return the values of all steps by the model."""
    values: list[Any] = []
    for step in steps:
        values.append(come_to([values[n] for n in step.inputs], step.label, step.large))
    return values


def traced(steps: list[Step], log: str, store: str) -> Callable[[], list[Any]]:
    """Return a flow function that makes the calls and returns their values."""

    def function() -> list[Any]:
        futures: list[Any] = []
        for step in steps:
            inputs = [futures[n] for n in step.inputs]
            call: Any = KINDS[step.kind]
            futures.append(call(log, store, inputs, step.label, step.large, step.nap))
            if step.look:
                futures[-1].wait()
        return futures

    return function


# -- the calls


def body(log: str, store: str, inputs: list[Any], label: int, large: bool, nap: float) -> Any:
    tasks.mark(log, f"{label} {os.getpid()}")
    if label in published(store):
        tasks.mark(log, f"{label} published")
    time.sleep(nap)
    return come_to(inputs, label, large)


def kind(name: str, **options: Any) -> Task[..., Any]:
    return task(name=name, key_name=f"kills-{name}", **options)(body)


KINDS = {
    "plain": kind("plain"),
    "cached": kind("cached", cache_policy=INPUTS),
    "locked": kind("locked", cache_policy=INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)),
}


class _Producer(msgspec.Struct):
    pid: int = 0


class _Inputs(msgspec.Struct):
    inputs: dict[str, str] = {}


class _Record(msgspec.Struct):
    """The fields of a result's record that are read here. Redirects have none of them."""

    key_parts: _Inputs = msgspec.field(default_factory=_Inputs)
    producer: _Producer = msgspec.field(default_factory=_Producer)


def records(address: str) -> dict[str, _Record]:
    """Return the records of all results in the store, by name."""
    store = open_store(address)
    names = [each.name for each in store.list("results/") if each.name.endswith(".record.json")]
    return {name: msgspec.json.decode(data, type=_Record) for name in names if (data := store.get(name)) is not None}


def published(address: str) -> set[int]:
    """Return the labels of all calls whose results are in the store."""
    digests = {record.key_parts.inputs.get("label") for record in records(address).values()}
    return {label for label, its in _labels() if its in digests}


@functools.cache
def _labels() -> list[tuple[int, str]]:
    return [(label, digest(label)) for label in range(100)]


# -- the killer


class Killer:
    """A context manager that kills worker processes during its block: at random times, or right after one has published
    a result, before it can report it.
    """

    def __init__(self, pids: Callable[[], list[int]], store: str, rng: random.Random, *, limit: int) -> None:
        self.killed: list[int] = []
        self._pids, self._store, self._rng, self._limit = pids, store, rng, limit
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._kill_all, name="killer", daemon=True)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _kill_all(self) -> None:
        for _ in range(self._limit):
            pid = self._any() if self._rng.random() < 0.5 else self._one_that_published()
            if pid is not None:
                self.killed.append(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _any(self) -> int | None:
        over = self._over.wait(self._rng.random() * LONGEST_WAIT)
        pids = [] if over else self._pids()
        return self._rng.choice(pids) if pids else None

    def _one_that_published(self) -> int | None:
        before = records(self._store).keys()
        while not self._over.wait(0.0005):
            for name, record in records(self._store).items():
                if name not in before:
                    return record.producer.pid if record.producer.pid in self._pids() else None
        return None


def children_named(text: str) -> list[int]:
    """Return the running descendants of this process with `text` in their command line. Needs psutil."""
    psutil: Any = importlib.import_module("psutil")
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # also raised for a zombie
            if text in " ".join(child.cmdline()):
                found.append(child.pid)
    return found


# -- the test


class KillTests(RunnerBench):
    """A slow test with random flows and kills.

    Subclass it as `Test…` and override `make_runner` and `worker_pids`. Clusters should outlive single runs.
    """

    kills_workers = True
    keeps_processes = True
    flows: ClassVar[int] = 12
    """The least number of flows. The environment variable `PENSTOCK_KILL_FLOWS` overrides it."""

    @abstractmethod
    def worker_pids(self) -> list[int]:
        """Return the processes that perform calls now, any of which may be killed."""

    @pytest.mark.slow
    @pytest.mark.timeout(30 + 20 * FLOWS if FLOWS else 300)
    def test_random_flows_are_correct_whatever_is_killed_and_never_rerun_published_calls(self, tmp_path: Path) -> None:
        seed = random.SystemRandom().randrange(2**32)
        flows = FLOWS or self.flows
        kills = retried = 0
        for number in range(10 * flows):
            if number >= flows and retried:
                break  # otherwise no kill has met a call yet
            print(f"seed {seed + number}")  # noqa: T201 (shown if the test fails)
            rng = random.Random(seed + number)
            steps = random_steps(rng)
            folder = tmp_path / str(number)
            folder.mkdir()
            killed, count = self.run_under_fire(steps, rng, folder)
            kills, retried = kills + killed, retried + count
        assert retried > 0, f"{kills} kills, and none of them met a call"

    def run_under_fire(self, steps: list[Step], rng: random.Random, folder: Path) -> tuple[int, int]:
        """Run and check one flow while its workers are killed. Return the number of kills and of repeated calls."""
        log, store = str(folder / "log"), self.make_store(folder)
        os.mkdir(log)
        self.settings = load_settings(overrides={"store": store})
        # Only a few, since a call fails if its workers die too often, and starting a worker takes a second.
        with Killer(self.worker_pids, store, rng, limit=rng.choice((0, 0, 1, 1, 1, 2))) as killer:
            run = self.run(traced(steps, log, store))
        assert run.result() == expected_of(steps)
        begun = dict(begun_in(log))
        assert "published" not in [pid for pids in begun.values() for pid in pids]
        for label, pids in begun.items():
            alive = [pid for pid in pids if int(pid) not in killer.killed]
            assert len(alive) <= 1, f"call {label} began in {pids}, of which {killer.killed} were killed"
        assert begun.keys() == {step.label for step in steps}
        assert published(store) == {step.label for step in steps if step.kind != "plain"}
        return len(killer.killed), run.counts["retried"]


def begun_in(log: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the marks of each call: the processes in which it started, and `published` if its result existed then."""
    found: dict[int, list[str]] = {}
    for name in os.listdir(log):
        label, what = name.partition("@")[0].split()
        found.setdefault(int(label), []).append(what)
    yield from found.items()
