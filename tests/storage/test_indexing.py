"""A lookup index beside a store: whatever it forgets, keeps too long or learns too late, reads match the store."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from penstock.errors import StoreUnreachable
from penstock.storage.records.records import RecipeEntry
from penstock.storage.results.generations import Absent, Found
from penstock.storage.results.store import ResultStore
from penstock.storage.stores.indexing import ID_NAME, MIN_BATCH, IndexedReads, closing_name
from penstock.storage.stores.memory import MemoryStore

KEYS = [f"key-{i}" for i in range(MIN_BATCH)]
PAIRS = [("task", key) for key in KEYS]
_attempts = itertools.count()


class Memory:
    """An index that counts how often it is read."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], bytes] = {}
        self.asked = 0

    def get_many(self, space: str, names: Sequence[str]) -> list[bytes | None]:
        self.asked += 1
        return [self.records.get((space, name)) for name in names]

    def put_many(self, space: str, records: Mapping[str, bytes]) -> None:
        self.records |= {(space, name): data for name, data in records.items()}

    def check(self) -> None:
        pass


class Indexed(MemoryStore):
    """A store in memory that uses an index as a bucket store does."""

    def __init__(self, index: Memory) -> None:
        super().__init__()
        self.reads = IndexedReads(self, index)
        self.read: list[str] = []

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        return self.reads.get_many(names)

    def read_many(self, names: Sequence[str]) -> list[bytes | None]:
        self.read += names
        return super().get_many(names)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        written = super().put_if_absent(name, data)
        if written:
            self.reads.wrote(name, data)
        return written

    def note_closing(self, name: str) -> None:
        closing = closing_name(name)
        if closing is not None:
            self.put(closing, b"{}")


def publish(results: ResultStore, keys: Iterable[str], value: Any) -> None:
    for key in keys:
        after = results.look_up("task", key)
        results.publish("task", key, value, after=after, attempt=f"a{next(_attempts)}", digest=f"digest of {value}")


def values(results: ResultStore) -> list[Any]:
    found = results.look_up_many(PAIRS)
    return [results.load(each.record) if isinstance(each, Found) else None for each in found]


def test_a_batch_of_published_records_is_read_from_the_index_alone() -> None:
    store = Indexed(Memory())
    results = ResultStore(store)
    publish(results, KEYS, 1)
    store.read.clear()
    assert values(results) == [1] * len(KEYS)
    assert store.read == []


def test_what_the_index_lacks_is_read_from_the_store_and_added_to_the_index() -> None:
    index = Memory()
    store = Indexed(index)
    results = ResultStore(store)
    publish(results, KEYS, 1)
    index.records.clear()
    assert values(results) == [1] * len(KEYS)
    store.read.clear()
    assert values(results) == [1] * len(KEYS)
    assert store.read == []


def test_a_few_records_are_read_directly_from_the_store() -> None:
    index = Memory()
    results = ResultStore(Indexed(index))
    publish(results, KEYS, 1)
    assert all(isinstance(each, Found) for each in results.look_up_many(PAIRS[: MIN_BATCH - 1]))
    assert index.asked == 0


def test_a_result_invalidated_without_the_index_is_no_longer_found() -> None:
    store = Indexed(Memory())
    publish(ResultStore(store), KEYS, 1)
    without = _WithoutIndex(store)
    assert ResultStore(without).invalidate("task", KEYS[3])
    found = ResultStore(store).look_up_many(PAIRS)
    assert [i for i, each in enumerate(found) if isinstance(each, Absent)] == [3]


def test_an_emptied_bucket_has_no_results_whatever_the_index_holds() -> None:
    store = Indexed(Memory())
    publish(ResultStore(store), KEYS, 1)
    for entry in list(store.list("")):
        store.delete(entry.name)
    assert values(ResultStore(store)) == [None] * len(KEYS)


def test_two_stores_that_share_an_index_do_not_see_each_others_results() -> None:
    index = Memory()
    one, other = ResultStore(Indexed(index)), ResultStore(Indexed(index))
    publish(one, KEYS, 1)
    assert values(other) == [None] * len(KEYS)
    publish(other, KEYS, 2)
    assert (values(one), values(other)) == ([1] * len(KEYS), [2] * len(KEYS))


def test_the_index_answers_nothing_without_the_store() -> None:
    store = Indexed(Memory())
    publish(ResultStore(store), KEYS, 1)
    failing = _Failing(store)
    (found, *_) = ResultStore(failing).look_up_many(PAIRS)
    assert type(found).__name__ == "Unknown"


def test_a_replaced_recipe_entry_is_read_in_its_new_form() -> None:
    index = Memory()
    results = ResultStore(Indexed(index))
    entries = [RecipeEntry(recipe=f"recipe-{i}", key="old", task="task", digest="d") for i in range(MIN_BATCH)]
    for entry in entries:
        results.put_recipe(entry)
    remembered = dict(index.records)
    results.put_recipe(RecipeEntry(recipe="recipe-2", key="new", task="task", digest="e"))
    index.records |= remembered  # a slow reader writes what it had read before
    keys = [each.key for each in results.get_recipes([e.recipe for e in entries]) if each is not None]
    assert keys == ["old", "old", "new", *["old"] * (MIN_BATCH - 3)]


@pytest.mark.slow
def test_reads_match_the_store_at_every_step_whatever_the_index_forgets_or_learns_late() -> None:
    run_state_machine_as_test(_machine(closings=True), settings=settings(max_examples=60, stateful_step_count=30))  # type: ignore[no-untyped-call]


@pytest.mark.slow
def test_without_closings_the_same_steps_find_a_stale_read() -> None:
    with pytest.raises(StaleRead):
        run_state_machine_as_test(_machine(closings=False), settings=settings(max_examples=200, print_blob=False))  # type: ignore[no-untyped-call]


class _WithoutIndex(MemoryStore):
    """The same store as seen by a program without an index."""

    def __init__(self, store: Indexed) -> None:
        super().__init__()
        self.__dict__.update({name: value for name, value in store.__dict__.items() if name not in ("reads", "read")})

    def note_closing(self, name: str) -> None:
        Indexed.note_closing(self, name)  # type: ignore[arg-type]


class _Failing(Indexed):
    """An unreachable store with a reachable index."""

    def __init__(self, store: Indexed) -> None:
        self.__dict__.update(store.__dict__)
        self.reads = IndexedReads(self, store.reads._index)

    def get(self, name: str) -> bytes | None:
        if name == ID_NAME:
            raise StoreUnreachable("no answer", where=name)
        return super().get(name)


class StaleRead(Exception):
    """The index returned what the store does not hold, or no longer holds."""


def _machine(*, closings: bool) -> Callable[[], RuleBasedStateMachine]:
    class Steps(RuleBasedStateMachine):
        @initialize()
        def start(self) -> None:
            self.index = Memory()
            self.store = Indexed(self.index)
            if not closings:
                self.store.note_closing = lambda name: None  # type: ignore[method-assign]
            self.results = ResultStore(self.store)
            self.late: list[dict[tuple[str, str], bytes]] = []
            self.number = itertools.count()

        @rule(key=st.sampled_from(KEYS))
        def publish_or_refresh(self, key: str) -> None:
            publish(self.results, [key], next(self.number))

        @rule(key=st.sampled_from(KEYS))
        def invalidate(self, key: str) -> None:
            self.results.invalidate("task", key)

        @rule()
        def forget(self) -> None:
            self.index.records.clear()

        @rule()
        def begin_to_tell(self) -> None:
            self.late.append(dict(self.index.records))

        @rule()
        def tell_late(self) -> None:
            if self.late:
                self.index.records |= self.late.pop()

        @invariant()
        def reads_are_the_store_s(self) -> None:
            names = [entry.name for entry in self.store.list("results/")]
            names += [f"results/task/{key}/000000.record.json" for key in KEYS]
            told, there = self.store.get_many(names), self.store.read_many(names)
            stale = [name for name, one, other in zip(names, told, there, strict=True) if one != other]
            if stale:
                raise StaleRead(f"the index told of {stale} what the store does not say")

    return Steps
