"""Stored values are read once in a process, and every consumer gets its own."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from penstock.errors import DamagedResult
from penstock.worker.value_cache import ValueCache


class Own:
    """A type that nobody knows how to copy."""

    def __init__(self) -> None:
        self.items = [1]


def counting(make: Any) -> tuple[Any, list[int]]:
    reads: list[int] = []

    def load() -> Any:
        reads.append(1)
        return make()

    return load, reads


@pytest.mark.parametrize(
    "make", [lambda: [1, [2]], Own, lambda: bytearray(b"xy")], ids=["list", "own class", "pickled"]
)
def test_a_value_is_read_once_and_each_consumer_gets_a_copy(make: Any) -> None:
    load, reads = counting(make)
    cache = ValueCache()
    values = [cache.get("k", 10, load, shared=True) for _ in range(3)]
    assert len(reads) == 1
    assert len({id(value) for value in values}) == 3


@pytest.mark.parametrize("make", [lambda: [1], Own], ids=["list", "own class"])
def test_no_consumer_sees_changes_made_by_another(make: Any) -> None:
    load, reads = counting(make)
    cache = ValueCache()
    first = cache.get("k", 10, load, shared=True)
    getattr(first, "items", first).append(99)
    second = cache.get("k", 10, load, shared=True)
    assert getattr(second, "items", second) == [1]
    assert len(reads) == 1


def test_a_value_that_only_one_call_needs_is_not_kept() -> None:
    load, reads = counting(list)
    cache = ValueCache()
    for _ in range(2):
        cache.get("k", 10, load, shared=False)
    assert len(reads) == 2


def test_the_last_consumer_gets_the_original() -> None:
    load, reads = counting(list)
    cache = ValueCache()
    cache.get("k", 10, load, shared=True)
    cache.get("k", 10, load, shared=False)
    assert len(reads) == 1


def test_threads_that_need_a_value_at_the_same_time_read_it_once() -> None:
    cache, entered, go = ValueCache(), threading.Event(), threading.Event()
    reads: list[int] = []

    def load() -> list[int]:
        reads.append(1)
        entered.set()
        assert go.wait(100)
        return [1]

    values: list[Any] = []
    ask = lambda: values.append(cache.get("k", 10, load, shared=True))  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(4)]
    threads[0].start()
    assert entered.wait(100)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(100)
    assert values == [[1]] * 4
    assert len(reads) == 1


def test_a_failed_read_fails_those_that_waited_and_the_next_one_tries_again() -> None:
    cache = ValueCache()

    def damaged() -> Any:
        raise DamagedResult("gone", where="here")

    with pytest.raises(DamagedResult):
        cache.get("k", 10, damaged, shared=True)
    assert cache.get("k", 10, lambda: [2], shared=True) == [2]


def test_an_interrupted_reader_does_not_interrupt_others() -> None:
    cache = ValueCache()

    def interrupted() -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get("k", 10, interrupted, shared=True)
    assert cache.get("k", 10, lambda: [2], shared=True) == [2]


def test_the_cache_is_bounded_and_drops_the_least_recently_used_value() -> None:
    cache = ValueCache(most=100)
    found = {name: counting(list) for name in "abc"}
    for name in "abab":
        cache.get(name, 50, found[name][0], shared=True)
    cache.get("c", 50, found["c"][0], shared=True)
    cache.get("b", 50, found["b"][0], shared=True)
    cache.get("a", 50, found["a"][0], shared=True)
    assert {name: len(reads) for name, (_, reads) in found.items()} == {"a": 2, "b": 1, "c": 1}


def test_a_value_that_is_too_large_is_read_by_each_consumer() -> None:
    load, reads = counting(list)
    cache = ValueCache(most=100)
    for _ in range(2):
        cache.get("k", 101, load, shared=True)
    assert len(reads) == 2


def test_everything_is_dropped_when_no_consumer_is_left() -> None:
    load, _ = counting(list)
    cache = ValueCache(idle_seconds=0.01)
    cache.get("k", 10, load, shared=True)
    timer = cache._timer
    if timer is not None:
        timer.join(100)
    assert not cache._entries
