"""Publishing in a simulated cluster: real result stores over one store, whose calls are lost, late and unanswered.

Writers without locks, invalidators, garbage collectors and readers share a key. `tests.nemesis.checker` judges the
answers they get, as it does for real processes.
"""

from __future__ import annotations

import io
import itertools
import random
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, TypeVar

import pytest

from penstock.errors import DamagedResult, StoreError, StoreUnreachable
from penstock.storage.records.encoding import decode_slot_at
from penstock.storage.records.names import key_folder, slot_in
from penstock.storage.records.records import ResultRecord
from penstock.storage.results.commits import Commits
from penstock.storage.results.generations import Absent, Found, read_slot
from penstock.storage.results.maintenance import gc, verify
from penstock.storage.results.store import Published, Restart, ResultStore, Staged
from penstock.storage.stores.base import Listed
from penstock.storage.stores.memory import MemoryStore
from tests.amounts import amount
from tests.locks.worlds import LEASE, Crashed, Machine, Violation, World, seeds
from tests.nemesis.checker import Terms, check
from tests.nemesis.history import Event

pytestmark = pytest.mark.untraced

T = TypeVar("T")
TASK, KEY = "simulated", "k"
SHORT_WORLDS = amount(here=250, in_ci=1_000)
SECONDS = 20.0
"""The duration of a call without an answer."""


class Writer(Machine):
    """A machine: its access to the store, and what it does with results."""

    world: PublishWorld
    url, trusted = "simulated://", True

    # -- access to the store

    def call(self, doing: str, work: Callable[[], T]) -> T:
        rng = self.world.rng
        fate = rng.choice(["lost", "unanswered", "late"]) if rng.random() < self.world.trouble else "fine"
        self.world.park(self, doing)
        if fate == "late" and doing not in ("get", "list", "open"):
            self.world.late.append((self.world.time + rng.uniform(0.0, 2.0) * LEASE, work))
        answer = work() if fate in ("fine", "unanswered") else None
        if self.crashing:
            raise Crashed
        if fate != "fine":
            self.wait(threading.Event(), SECONDS)
            raise StoreUnreachable("no answer")
        return answer  # type: ignore[return-value]

    def get(self, name: str) -> bytes | None:
        return self.call("get", lambda: self.world.store.get(name))

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        return [self.get(name) for name in names]

    def put_if_absent(self, name: str, data: bytes) -> bool:
        if not name.startswith("results/"):
            return self.world.store.put_if_absent(name, data)
        put = self.world.store.put if self.world.wrong == "overwrites" else self.world.store.put_if_absent
        return self.call("put_if_absent", lambda: put(name, data) is not False)

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        self.call("put", lambda: self.world.store.put(name, data))

    def delete(self, name: str) -> None:
        self.call("delete", lambda: self.world.store.delete(name))

    def list(self, prefix: str) -> Iterator[Listed]:
        return self.call("list", lambda: self.world.store.list(prefix))

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        file = io.BytesIO()
        yield file

        def write() -> None:
            with self.world.store.create(name) as kept:
                kept.write(file.getvalue())

        if self.world.wrong == "records first":
            # It lands some time later, and the writer does not wait for it.
            self.world.late.append((self.world.time + self.world.rng.uniform(0.0, 0.3) * LEASE, write))
        else:
            self.call("create", write)

    def open(self, name: str) -> BinaryIO:
        return self.call("open", lambda: self.world.store.open(name))

    def local_path(self, name: str) -> str | None:
        return None

    # -- operations -

    def drive(self, results: ResultStore, keys: Sequence[str], rounds: int) -> None:
        rng = random.Random(self.world.seed * 10 + self.index)
        doings = [self.compute, self.look, self.invalidate, self.collect]
        for _ in range(rounds):
            with suppress(StoreError, DamagedResult):  # the latter are in the history
                rng.choices(doings, weights=[6, 4, 3, 2])[0](results)

    def note(self, op: str, **about: Any) -> Noted:
        return Noted(self, op, about)

    def look(self, results: ResultStore) -> Found | Absent:
        noted = self.note("read")
        try:
            found = results.look_up(TASK, KEY)
            if isinstance(found, Absent):
                noted.end("ok", generation=found.generation, attempt=None)
                return found
            value = results.load(found.record)
        except DamagedResult as error:
            noted.end("fail", damaged=not error.data.get("closed"))
            raise
        record = found.record
        noted.end("ok", generation=found.generation, attempt=record.attempt, digest=value, recorded=record.digest)
        return found

    def compute(self, results: ResultStore) -> None:
        found = self.look(results)
        if isinstance(found, Found):
            return
        attempt = uuid.uuid4().hex
        noted = self.note("publish", attempt=attempt)
        # As a pickle, so that the value gets a file of its own.
        staged = results.stage(TASK, KEY, attempt, after=found, attempt=attempt, digest=attempt, serializer="pickle")
        published = results.commit(staged)
        if isinstance(published, Restart):
            noted.end("ok", restart=published.reason, generation=published.generation)
            return
        record = published.record
        noted.end("ok", won=published.won, generation=record.generation, attempt=record.attempt, digest=record.digest)

    def invalidate(self, results: ResultStore) -> None:
        noted = self.note("invalidate")
        results.invalidate(TASK, KEY)
        noted.end("ok")

    def collect(self, results: ResultStore) -> None:
        if self.world.wrong == "collects openly":
            self._collect_openly(results)
        else:
            gc(results, grace_seconds=0.0)

    def _collect_openly(self, results: ResultStore) -> None:
        """A mistake: delete what no record names, and close nothing."""
        names = [file.name for file in self.list("results/")]
        slots = [decode_slot_at(self.get(name) or b"", name) for name in names if name.endswith(".record.json")]
        named = {slot.payload_name for slot in slots if isinstance(slot, ResultRecord)}
        for name in names:
            if not name.endswith(".record.json") and name not in named:
                self.delete(name)


class Noted:
    """An operation in the world's history."""

    def __init__(self, machine: Writer, op: str, about: dict[str, Any]) -> None:
        self._machine, self._op = machine, op
        self._n = next(machine.world.numbers)
        self._write("invoke", about)

    def end(self, type: str, **answer: Any) -> None:
        self._write(type, answer)

    def _write(self, type: str, about: dict[str, Any]) -> None:
        world = self._machine.world
        # One after the other: the world's time may stand still.
        world.history.append(
            Event(float(len(world.history)), f"machine {self._machine.index}", self._n, type, self._op, KEY, about)
        )


class LosesWhatIsTaken(ResultStore):
    """A mistake: treat "it exists" as "I lost", and clean up."""

    def __init__(self, store: Any, **options: Any) -> None:
        super().__init__(store, **options)
        self.commits = LosingCommits(store, self.trust, self.counters, self.clock)


class LosingCommits(Commits):
    def _try_commit(self, staged: Staged) -> Published | Restart | Staged:
        if self._store.put_if_absent(staged.record.slot_name, staged.data):
            return Published(staged.record, won=True)
        assert staged.record.payload_name is not None
        self._store.delete(staged.record.payload_name)
        slot = read_slot(self._store, staged.record.slot_name)
        return Published(slot, won=False) if isinstance(slot, ResultRecord) else Restart(1, "invalidated")


class DeletesRecords(ResultStore):
    """A mistake: invalidate by deleting."""

    def invalidate(self, task: str, key: str, reason: Any = "invalidated") -> bool:
        self.store.delete(slot_in(key_folder(task, key), self.look_up(task, key).generation))
        return True


class PublishWorld(World):
    """Machines that share a result store."""

    machine_class = Writer

    def __init__(
        self,
        seed: int,
        *,
        machines: int = 4,
        rounds: int = 4,
        wrong: str = "",
        results: type[ResultStore] = ResultStore,
    ) -> None:
        self.store = MemoryStore()
        self.results_class = results
        self.wrong = wrong
        self.late: list[tuple[float, Callable[[], Any]]] = []
        self.history: list[Event] = []
        self.numbers = itertools.count()
        super().__init__(
            seed, machines=machines, rounds=rounds, delicate=["put_if_absent", "put", "create", "delete", "get"]
        )
        self.trouble = self.rng.choice([0.0, 0.05, 0.15])

    def make_manager(self, machine: Writer) -> ResultStore:
        return self.results_class(machine, clock=machine)

    def _misfortune(self) -> None:
        super()._misfortune()
        for entry in [entry for entry in self.late if entry[0] <= self.time]:
            self.late.remove(entry)
            entry[1]()

    def judged(self, *, max_steps: int = 4_000) -> PublishWorld:
        """Run, let everything arrive, and collect garbage. Raise `Violation` for a broken promise."""
        self.run(max_steps=max_steps)
        for _, arrive in self.late:
            arrive()
        found = check(self.history, Terms())
        if not self.wrong and self.results_class is ResultStore:
            self._look_at_what_is_left()
        if found:
            told = "\n".join(map(str, [*found, "", *self.history]))
            raise Violation(f"seed {self.seed}: {told}")
        return self

    def _look_at_what_is_left(self) -> None:
        results = ResultStore(self.store)
        gc(results, grace_seconds=0.0)
        problems = verify(results).problems
        slots = {f.name: read_slot(self.store, f.name) for f in self.store.list("results/") if "record" in f.name}
        named = {slot.payload_name for slot in slots.values() if isinstance(slot, ResultRecord)}
        payloads = {file.name for file in self.store.list("results/") if file.name not in slots}
        if problems or payloads != named:
            raise Violation(f"seed {self.seed}: {problems}, {payloads} for {named}")


# -- the tests


@pytest.mark.parametrize("seed", range(20))
def test_every_promise_is_kept(seed: int) -> None:
    PublishWorld(seed, rounds=8).judged()


def promises_kept_in(worlds: Iterable[int]) -> None:
    won = [
        any(event.about.get("won") for event in PublishWorld(seed, machines=2 + seed % 3, rounds=3).judged().history)
        for seed in worlds
    ]
    assert sum(won) > len(won) / 2, "most worlds should come to a result"


@pytest.mark.slow
def test_every_promise_is_kept_in_many_short_worlds() -> None:
    promises_kept_in(seeds(SHORT_WORLDS))


@pytest.mark.evidence
@pytest.mark.slow
def test_every_promise_is_kept_in_tens_of_thousands_of_short_worlds() -> None:
    promises_kept_in(seeds(20_000)[SHORT_WORLDS:])


def test_a_seed_determines_the_history() -> None:
    assert PublishWorld(5).judged().history == PublishWorld(5).judged().history


WRONG = {
    "overwrites": ({"wrong": "overwrites"}, {"I1", "I3"}),
    "invalidates by deleting": ({"results": DeletesRecords}, {"I1", "I5"}),
    "takes taken for lost": ({"results": LosesWhatIsTaken}, {"I2"}),
    "collects without closing": ({"wrong": "collects openly"}, {"I2"}),
    "writes records before their payloads": ({"wrong": "records first"}, {"I2"}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_mistakes_are_found(wrong: str) -> None:
    options, invariants = WRONG[wrong]
    worlds = (PublishWorld(seed, **options) for seed in range(300))
    found: set[str] = set()
    while not found & invariants:
        try:
            next(worlds).judged()
        except Violation as violation:
            found |= {line.partition(":")[0] for line in str(violation).replace(": ", "\n", 1).splitlines()}
