"""Transactions in a simulated cluster: real result stores over one store, whose calls are lost, late and unanswered.

Machines publish two keys in a transaction, commit it or roll it back, die in the middle, and roll back those of others.
Others compute, look, invalidate and collect the same keys. What a transaction has published, a reader sees as a whole.
"""

from __future__ import annotations

import random
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from penstock.errors import DamagedResult, StoreError
from penstock.storage.records.encoding import decode_decision, encode
from penstock.storage.records.names import decision_name, slot_name
from penstock.storage.records.records import IntentRecord, RedirectRecord
from penstock.storage.records.transactions import Decision
from penstock.storage.results.decisions import Decisions
from penstock.storage.results.generations import Absent, Found, Unknown, read_slot
from penstock.storage.results.maintenance import gc, verify
from penstock.storage.results.store import Published, ResultStore
from penstock.testing.stores.faults import HastyClock
from tests.amounts import amount
from tests.locks.worlds import Violation, seeds
from tests.storage.test_publish_simulation import PublishWorld, Writer

TASK, KEYS = "simulated", ("p", "q")
SHORT_WORLDS = amount(here=150, in_ci=500)


class Transactor(Writer):
    """A machine that uses transactions."""

    world: TransactionWorld

    def put_if_absent(self, name: str, data: bytes) -> bool:
        if name.startswith("transactions/"):
            put = self.world.store.put if self.world.wrong == "decides twice" else self.world.store.put_if_absent
            return self.call("put_if_absent", lambda: put(name, data) is not False)
        return super().put_if_absent(name, data)

    def drive(self, results: ResultStore, keys: Sequence[str], rounds: int) -> None:
        rng = random.Random(self.world.seed * 10 + self.index)
        doings: list[Callable[[ResultStore, random.Random], None]] = [
            *(self.transact, self.read, self.alone, self.close, self.clean, self.resolve)
        ]
        for _ in range(rounds):
            with suppress(StoreError, DamagedResult):
                rng.choices(doings, weights=[6, 6, 2, 2, 1, 2])[0](results, rng)

    # -- operations

    def transact(self, results: ResultStore, rng: random.Random) -> None:
        id = uuid.uuid4().hex
        decisions = results.commits.decisions
        self.world.members[id] = {}
        self.world.open.append(id)
        early = self.world.wrong == "decides first"
        if early:
            decisions.decide(id, "commit")
        published = []
        for key in rng.sample(KEYS, k=2):
            found = results.look_up(TASK, key, inside=id)
            again = isinstance(found, Found) and rng.random() < 0.5  # a refresh replaces what there is
            if isinstance(found, Absent) or again:
                outcome = self.publish(results, key, found, transaction=id)
                if not isinstance(outcome, Published):
                    decisions.decide(id, "rollback")
                    return
                published.append(outcome)
                if outcome.record.transaction == id:
                    self.world.members[id][key] = outcome.record.generation
        for each in published:
            results.commits.close_replaced(each)
        decisions.decide(id, "commit" if rng.random() < 0.7 else "rollback")

    def publish(self, results: ResultStore, key: str, after: Any, *, transaction: str = "") -> Any:
        attempt = uuid.uuid4().hex
        # As a pickle, so that the value gets a file of its own.
        staged = results.stage(
            TASK,
            key,
            attempt,
            after=after,
            attempt=attempt,
            digest=attempt,
            serializer="pickle",
            transaction=transaction,
        )
        return results.commit(staged)

    def alone(self, results: ResultStore, rng: random.Random) -> None:
        key = rng.choice(KEYS)
        found = results.look_up(TASK, key)
        if isinstance(found, Absent):
            self.publish(results, key, found)

    def read(self, results: ResultStore, rng: random.Random) -> None:
        first, second = rng.sample(KEYS, k=2)
        found = results.look_up(TASK, first)
        if not isinstance(found, Found):
            return
        id = found.record.transaction
        if id and self.world.decided(id) != "commit":
            self.world.broken(f"{first} of {id} is there, and {id} is not committed")
        generation = self.world.members.get(id, {}).get(second)
        if generation is not None:
            (other,) = results.look_up_many([(TASK, second)])
            if isinstance(other, Unknown) or other.generation > generation:
                return
            here = isinstance(other, Found) and other.record.transaction == id
            if not here and not isinstance(self.world.slot(second, generation), RedirectRecord):
                self.world.broken(f"{first} of {id} is there, and {second} is not: {other}")

    def close(self, results: ResultStore, rng: random.Random) -> None:
        results.invalidate(TASK, rng.choice(KEYS))

    def clean(self, results: ResultStore, rng: random.Random) -> None:
        gc(results, grace_seconds=0.0)

    def resolve(self, results: ResultStore, rng: random.Random) -> None:
        """Roll back any transaction, as if its owner were gone: it may be about to commit."""
        if self.world.open:
            results.commits.decisions.decide(rng.choice(self.world.open), "rollback", because="its owner is gone")


class TransactionWorld(PublishWorld):
    """Machines that share a result store, and use transactions."""

    machine_class = Transactor

    def __init__(self, seed: int, **options: Any) -> None:
        self.members: dict[str, dict[str, int]] = {}
        """The generations of the keys that each transaction has published."""
        self.open: list[str] = []
        super().__init__(seed, **options)

    def make_manager(self, machine: Any) -> ResultStore:
        results = super().make_manager(machine)
        if self.wrong == "counts too early":
            results.commits.decisions = TooEarly(machine, results.trust, machine)
        return results

    def decided(self, id: str) -> str:
        data = self.store.get(decision_name(id))
        return decode_decision(data, id).outcome if data is not None else ""

    def slot(self, key: str, generation: int) -> Any:
        return read_slot(self.store, slot_name(TASK, key, generation))

    def broken(self, why: str) -> None:
        raise Violation(f"seed {self.seed}: {why}")

    def judged(self, *, max_steps: int = 4_000) -> TransactionWorld:
        self.run(max_steps=max_steps)
        for _, arrive in self.late:
            arrive()
        for id, members in self.members.items():
            outcome = self.decided(id)
            for key, generation in members.items():
                slot = self.slot(key, generation)
                there = isinstance(slot, IntentRecord) and slot.transaction == id
                if outcome == "commit" and not (there or isinstance(slot, RedirectRecord)):
                    self.broken(f"{key} of {id} is lost: {slot}")
        results = ResultStore(self.store, clock=HastyClock())
        gc(results, grace_seconds=0.0)
        if problems := verify(results).problems:
            self.broken(str(problems))
        return self


class TooEarly(Decisions):
    """A mistake: intents count before there is a decision."""

    def meaning(self, slot: Any, *, inside: str = "") -> Any:
        return slot.result if isinstance(slot, IntentRecord) else slot


# -- the tests


@pytest.mark.parametrize("seed", range(20))
def test_readers_see_transactions_as_a_whole(seed: int) -> None:
    TransactionWorld(seed, rounds=8).judged()


def seen_in(worlds: Iterable[int]) -> None:
    outcomes = []
    for seed in worlds:
        world = TransactionWorld(seed, machines=2 + seed % 3, rounds=4).judged()
        outcomes += [world.decided(id) for id, members in world.members.items() if len(members) == 2]
    assert {"commit", "rollback", ""} <= set(outcomes)
    assert outcomes.count("commit") > len(outcomes) / 5


@pytest.mark.slow
def test_readers_see_transactions_as_a_whole_in_hundreds_of_short_worlds() -> None:
    seen_in(seeds(SHORT_WORLDS))


@pytest.mark.evidence
@pytest.mark.slow
def test_readers_see_transactions_as_a_whole_in_tens_of_thousands_of_short_worlds() -> None:
    seen_in(seeds(10_000)[SHORT_WORLDS:])


@pytest.mark.parametrize("wrong", ["decides first", "decides twice", "counts too early"])
@pytest.mark.slow
def test_mistakes_with_transactions_are_found(wrong: str) -> None:
    worlds = (TransactionWorld(seed, rounds=6, wrong=wrong) for seed in range(500))
    with pytest.raises(Violation):
        deque(map(TransactionWorld.judged, worlds))


def test_a_decision_is_not_confused_with_one_about_another_transaction() -> None:
    with pytest.raises(DamagedResult):
        decode_decision(encode(Decision(transaction="a", outcome="commit")), "b")
