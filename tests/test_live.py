"""Objects with live resources are refused when pickled, wherever they are nested."""

from __future__ import annotations

import importlib
import io
import pickle
import sys
import threading
from typing import Any

import cloudpickle
import pytest

from penstock.objects.live import LiveValue, culprit, dumps, find_live, said_place, why_unpicklable
from penstock.objects.places import place_of


class _Slots:
    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held


class _Hostile:
    """An object whose every attribute access fails."""

    def __init__(self, held: Any) -> None:
        object.__setattr__(self, "held", held)

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)

    def __repr__(self) -> str:
        raise SystemExit

    def __eq__(self, other: object) -> bool:
        raise SystemExit

    __hash__ = object.__hash__


@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda live: live, ""),
        (lambda live: [1, (live,)], "[1][0]"),
        (lambda live: {"a": {2: live}}, "['a'][2]"),
        (lambda live: _Slots([live]), ".held[0]"),
        (lambda live: {"f": lambda: live}, "['f'].<closure live>"),
        (lambda live: ValueError("x", live), ".args[1]"),
    ],
)
def test_a_live_object_is_named_by_its_place(wrap: Any, path: str) -> None:
    live = memoryview(b"abc")
    error = why_unpicklable(wrap(live))
    assert isinstance(error, LiveValue)
    assert culprit(wrap(live), error) == (path, live)


LOCK = threading.Lock()


class _Holder:
    @property
    def lock(self) -> Any:
        return LOCK

    def locked(self) -> Any:
        return self.lock


def _uses_lock() -> Any:
    return [LOCK for _ in range(2)]


def _takes_lock(x: int, held: Any = LOCK) -> Any:
    return x, held


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (_uses_lock, ".<global LOCK>"),
        ([lambda: _uses_lock()], "[0].<global _uses_lock>.<global LOCK>"),
        (_takes_lock, ".<default held>"),
        (_Holder, ".lock.<global LOCK>"),
    ],
)
def test_a_global_that_code_is_pickled_with_is_named_by_its_place(value: Any, path: str) -> None:
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        error = why_unpicklable(value)
        assert error is not None
        assert culprit(value, error) == (path, LOCK)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_the_place_of_a_global_is_told_in_words() -> None:
    told = said_place("['f'].<closure held>.<global _uses_lock>.<default lock>[0]")
    assert told == "['f']: closure variable held: global _uses_lock: default of lock[0]"


def test_a_nested_lock_is_found_without_touching_hostile_objects() -> None:
    lock = threading.Lock()
    assert place_of([_Hostile(lock)], lambda part: part is lock) == "[0].held"
    assert find_live({"x": [_Slots(lock)]}, most=64) is not None


def test_data_in_memory_and_the_standard_streams_are_not_live() -> None:
    for value in ([io.BytesIO(b"a"), io.StringIO("b")], {"to": sys.stdout}, bytearray(b"c"), [1, "a"]):
        assert find_live(value, most=64) is None
    dumps([io.BytesIO(b"a"), bytearray(b"c")])


def test_a_value_that_contains_itself_is_walked_once() -> None:
    value: list[Any] = []
    value.append(value)
    assert place_of(value, lambda part: False) is None


def test_the_error_can_be_pickled_without_the_live_object() -> None:
    error = why_unpicklable(memoryview(b"abc"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.slow
@pytest.mark.needs("distributed")
def test_a_dask_future_is_refused_but_a_collection_of_them_is_not() -> None:
    distributed = importlib.import_module("distributed")
    bag = importlib.import_module("dask.bag")
    with distributed.Client(processes=False, dashboard_address=":0") as client:
        future = client.submit(abs, -1)
        error = why_unpicklable({"model": future})
        assert isinstance(error, LiveValue)
        assert "Dask future" in str(error)
        assert why_unpicklable(bag.from_sequence([1, 2]).persist()) is None
