"""Copies of values are equal, of the same type, and not shared."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import importlib
import pathlib
import pickle
import threading
from collections import defaultdict, deque, namedtuple
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn
from unittest.mock import Mock

import msgspec
import pytest

from penstock import INPUTS, flow, task
from penstock.errors import SerializationError, TracingError
from penstock.objects.copies import own_copy
from penstock.objects.live import dumps
from penstock.objects.package_copies import CannotCopy
from penstock.runners import ProcessRunner, ThreadRunner
from penstock.storage.formats.sizes import nbytes_of
from penstock.worker.copies import OwnCopies, copied
from penstock.worker.retention import retained
from penstock.worker.shipping.shared_buffers import pack
from penstock.worker.shipping.values import Pickled, read_value


class _Colour(enum.Enum):
    RED = 1


class _Holder:
    def __init__(self) -> None:
        self.items = [1]


_Point = namedtuple("_Point", ["x", "y"])
_GLOBAL: list[int] = [1]


@pytest.mark.parametrize(
    "value", [1, "a", b"b", None, _Colour.RED, pathlib.Path("a"), (1, ("b",)), frozenset({1}), _Holder, len]
)
def test_immutable_values_are_not_copied(value: Any) -> None:
    assert own_copy(value) is value


@pytest.mark.parametrize(
    "value",
    [[1, [2]], {"a": [1]}, {1, 2}, deque([[1]], 5), bytearray(b"a"), ([1], 2), _Point([1], 2)],
    ids=lambda value: type(value).__name__,
)
def test_a_copy_is_equal_of_the_same_type_and_another_object(value: Any) -> None:
    new = own_copy(value)
    assert new == value
    assert type(new) is type(value)
    assert new is not value
    assert getattr(new, "maxlen", None) == getattr(value, "maxlen", None)


def test_shared_parts_stay_shared() -> None:
    shared: list[Any] = [1]
    first, second = own_copy([shared, shared])
    assert first is second is not shared


class _Marker:
    """An object that code compares with."""


class _Slot:
    __slots__ = ()


@dataclasses.dataclass(frozen=True)
class _Frozen:
    items: Any

    @property
    def first(self) -> Any:
        return self.items[0]


@dataclasses.dataclass(frozen=True)
class _Lazy:
    number: int

    @functools.cached_property
    def items(self) -> list[int]:
        return [self.number]


class _FrozenStruct(msgspec.Struct, frozen=True):
    items: Any


_MARKER = _Marker()
_COPIES: list[Callable[[Any], Any]] = [own_copy, copied, lambda value: OwnCopies().of(value)]
_MARKERS = [
    _MARKER,
    object(),
    _Slot(),
    _Frozen((1, _Frozen("a"))),
    _FrozenStruct(_MARKER),
]


@pytest.mark.parametrize("copy", _COPIES)
@pytest.mark.parametrize("value", _MARKERS, ids=lambda value: type(value).__name__)
def test_markers_and_immutable_records_are_not_copied(value: Any, copy: Callable[[Any], Any]) -> None:
    assert copy(value) is value
    assert copy([[], value])[1] is value


@pytest.mark.needs("attrs")
def test_an_immutable_object_of_an_attrs_class_is_not_copied() -> None:
    import attrs

    value = attrs.make_class("A", ["x"], frozen=True)(1)
    assert all(copy(value) is value for copy in _COPIES)


@pytest.mark.parametrize("value", [_Marker(), _Frozen([1]), _Lazy(1)], ids=lambda value: type(value).__name__)
def test_objects_that_can_be_filled_are_copied(value: Any) -> None:
    assert copied(value) is not value
    assert OwnCopies().of(value) is not value


def test_a_value_that_contains_itself_can_be_copied() -> None:
    value: list[Any] = [1]
    value.append({"me": value})
    new = own_copy(value)
    assert new[1]["me"] is new is not value


def test_a_value_nested_too_deeply_is_a_clear_error() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(SerializationError, match="nested too deeply"):
        copied(value)
    while value:
        value = value.pop()


def test_objects_copy_themselves_and_the_error_names_what_cannot() -> None:
    holder = _Holder()
    assert copied(holder).items is not holder.items
    table: defaultdict[str, list[int]] = defaultdict(list, a=[1])
    assert copied(table).default_factory is list
    with pytest.raises(CannotCopy):
        own_copy(holder)
    lock = threading.Lock()
    with pytest.raises(CannotCopy) as caught:
        copied([lock])
    assert caught.value.value[0] is lock


@pytest.mark.needs("numpy")
def test_arrays_keep_their_memory_order_and_their_objects_are_copied() -> None:
    numpy = importlib.import_module("numpy")
    value = numpy.asfortranarray(numpy.ones((3, 4)))
    assert own_copy(value).flags.f_contiguous
    for other in (numpy.ones((2, 3, 4)).transpose(1, 0, 2), value[::2], numpy.arange(6)[::-1]):
        assert own_copy(other).flags.c_contiguous  # as after storing and reading it
    cells = numpy.array([[1], [2, 3]], dtype=object)
    own_copy(cells)[0].append(9)
    assert cells[0] == [1]
    assert own_copy(numpy.float64(1.5)) == 1.5


@pytest.mark.needs("pandas")
@pytest.mark.parametrize("kind", ["frame", "series"])
def test_lists_in_the_cells_of_a_frame_are_copied(kind: str) -> None:
    pandas = importlib.import_module("pandas")
    frame = pandas.DataFrame({
        "cells": pandas.Series([[1], [2]], dtype=object),
        "category": pandas.Categorical(["a", "b"]),
        "interval": pandas.interval_range(0, 2),
        "text": ["a", "b"],
    })  # fmt: skip
    frame.attrs["unit"] = "m"
    value = frame if kind == "frame" else frame["cells"]
    new = own_copy(value)
    pandas.testing.assert_frame_equal(pandas.DataFrame(new), pandas.DataFrame(value))
    assert new.attrs == value.attrs
    (new["cells"] if kind == "frame" else new)[0].append(9)
    assert frame["cells"][0] == [1]


@pytest.mark.needs("polars")
def test_changing_a_polars_frame_changes_only_its_owners_copy() -> None:
    polars = importlib.import_module("polars")
    value = polars.DataFrame({"a": [1, 2]})
    new = own_copy(value)
    new[0, "a"] = 9
    assert value["a"].to_list() == [1, 2]


@pytest.mark.parametrize(
    ("make", "kept"),
    [
        (lambda: [1], False),
        (lambda: {"a": [[1], {"b": [2]}]}, False),
        (lambda: _GLOBAL, True),
        (lambda: [_GLOBAL], True),
        (lambda: {"a": (1, _GLOBAL)}, True),
    ],
    ids=["new", "nested", "global", "in a list", "deeper"],
)
def test_a_value_that_its_task_keeps_is_distinguished_from_one_it_released(make: Any, kept: bool) -> None:
    assert retained([make()]) is kept


@pytest.mark.needs("numpy")
def test_a_view_of_a_kept_array_counts_as_kept() -> None:
    numpy = importlib.import_module("numpy")
    array = numpy.arange(6)
    assert retained([array[:2]])
    assert not retained([numpy.arange(6).reshape(2, 3)])


def test_a_value_without_a_size_counts_as_small() -> None:
    class Sparse:
        @property
        def nbytes(self) -> int:
            raise NotImplementedError("not for this layout")

    assert nbytes_of(Sparse()) == nbytes_of(type("Kind", (), {"nbytes": property(len)})) == nbytes_of(1) == 0
    assert nbytes_of(memoryview(b"abc")) == 3


@pytest.mark.needs("numpy")
def test_long_texts_are_copied_like_numbers() -> None:
    import numpy as np

    value = np.array(["a", "b" * 100], dtype=np.dtypes.StringDType())
    twin = own_copy(value)
    twin[0] = "changed"
    assert value.tolist() == ["a", "b" * 100]


@task
def _arrays() -> Any:
    import numpy

    own, base, cells = numpy.arange(3), numpy.arange(3), numpy.array([[1], "x"], dtype=object)
    frozen = {"own": own, "view": base[:2], "gaps": base[::2], "cells": cells, "large": numpy.arange(100_000)[::2]}
    for array in frozen.values():
        array.flags.writeable = False
    return {**frozen, "base": base}


@task
def _writeable(arrays: Any) -> set[str]:
    return {name for name, array in arrays.items() if array.flags.writeable}


@pytest.mark.needs("numpy")
@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
@pytest.mark.parametrize("runner", [ThreadRunner(), ProcessRunner(workers=1)], ids=["threads", "processes"])
def test_a_read_only_array_is_read_only_for_every_consumer_cold_and_warm(cached: bool, runner: Any) -> None:
    makes = _arrays.with_options(cache_policy=INPUTS if cached else None)

    @flow(runner=runner)
    def asks() -> Any:
        made = makes()
        return [_writeable(made), _writeable(made), _writeable.fn(made.result())]

    assert asks() == [{"base"}] * 3
    assert asks() == [{"base"}] * 3


@pytest.mark.needs("numpy")
def test_a_read_only_array_is_pickled_as_one_read_only_object() -> None:
    import numpy

    for array in (numpy.arange(10)[::2], numpy.broadcast_to(numpy.arange(3), (2, 3)), numpy.array([[1], "x"], object)):
        array.flags.writeable = False
        first, second = pickle.loads(dumps([array, array]))
        assert first is second
        assert not first.flags.writeable
        assert first.tolist() == array.tolist()


@pytest.mark.needs("numpy")
def test_a_small_value_held_by_an_engine_keeps_its_read_only_arrays() -> None:
    handle = pack(_arrays.fn() | {"large": None})
    assert isinstance(handle, Pickled)
    assert _writeable.fn({name: array for name, array in read_value(handle).items() if name != "large"}) == {"base"}


def _numbers() -> dict[str, list[int]]:
    return {"list": [1]}


def _adder() -> Any:
    total = [1]

    def add(number: int) -> list[int]:
        total.append(number)
        return total

    return add


def _counter() -> Any:
    count = 0

    def counted() -> int:
        nonlocal count
        count += 1
        return count

    return counted


@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
def test_a_method_obtained_from_a_future_changes_no_value_that_tasks_get(cached: bool) -> None:
    numbers = task(cache_policy=INPUTS if cached else None)(_numbers)
    shows = task(cache_policy=INPUTS if cached else None)(repr)

    @flow
    def asks() -> list[str]:
        part = numbers()["list"]
        held = part.append.result()
        held(2)
        with pytest.raises(TracingError, match="changed by a call"):
            part.append(3)
        return [shows(part), shows(numbers()["list"])]

    for _ in range(2):
        assert asks() == ["[1]", "[1]"]


@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
def test_functions_returned_by_tasks_do_not_share_variables_between_futures(cached: bool) -> None:
    adder = task(cache_policy=INPUTS if cached else None)(_adder)
    counter = task(cache_policy=INPUTS if cached else None)(_counter)

    @task
    def adds(add: Any) -> Any:
        return add(5)

    @flow
    def asks() -> list[Any]:
        first, second = adder(), adder()
        first.result()(2)
        one, other = counter(), counter()
        one.result()()
        return [second.result()(3), adds(adder()), other.result()()]

    for _ in range(2):
        assert asks() == [[1, 3], [1, 5], 1]


def test_copies_of_functions_share_variables_as_the_originals_do() -> None:
    def pair() -> Any:
        count = 0

        def add() -> None:
            nonlocal count
            count += 1

        return add, lambda: count

    add, count = pair()
    own_add, own_count = copied((add, count))
    own_add()
    assert (count(), own_count()) == (0, 1)


class _Counted:
    """An object that counts how often it is copied."""

    def __init__(self, copies: list[int]) -> None:
        self.copies = copies

    def __deepcopy__(self, memo: Any) -> _Counted:
        self.copies.append(1)
        return _Counted(self.copies)


class _Refuses:
    def __init__(self, *items: Any) -> None:
        self.items = items

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise SystemExit("never")


def test_objects_that_cannot_be_copied_are_shared_by_calls_and_copied_by_none_in_part() -> None:
    inner = _Holder()
    for outer in ({"inner": inner, "lock": threading.Lock()}, _Refuses(inner)):
        copies, holder = OwnCopies(), _Holder()
        holder.items = [inner, outer]
        assert copies.of(holder) is holder
        assert copies.of([holder])[0] is holder
        own = copies.of(inner)
        assert own is not inner
        assert own.items == [1]
        assert copies.of(inner) is own


def test_an_interrupt_during_a_copy_is_not_mistaken_for_an_object_that_cannot_be_copied() -> None:
    class Interrupted(BaseException):
        pass

    class Slow:
        def __deepcopy__(self, memo: Any) -> NoReturn:
            raise Interrupted

    for copy in (copied, OwnCopies().of):
        with pytest.raises(Interrupted):
            copy(Slow())


def test_an_object_is_copied_once_for_a_call_that_returns_it() -> None:
    value = _Counted([])

    @task
    def returns(given: Any, call: int) -> Any:
        return given

    @task
    def shows(given: Any) -> str:
        return type(given).__name__

    @flow(runner=ThreadRunner(1))
    def passes() -> Any:
        return [shows(returns(value, call)) for call in range(3)]

    assert passes() == ["_Counted"] * 3
    assert len(value.copies) == 3


def test_a_mock_is_not_copied_since_a_test_examines_it() -> None:
    client = Mock()

    @task
    def sends(client: Any, clients: list[Any]) -> None:
        client.send(1)
        clients[0].send(2)

    sends(client, [client])
    assert client.send.call_count == 2


def test_a_task_that_is_called_directly_gets_its_own_copy_of_an_object() -> None:
    @task
    def adds(holder: _Holder) -> list[int]:
        holder.items.append(2)
        return holder.items

    holder = _Holder()
    assert adds(holder) == [1, 2]
    assert holder.items == [1]


def test_what_a_flow_does_to_an_object_before_a_plain_call_runs_is_seen_by_the_call() -> None:
    @task
    def first() -> int:
        return 1

    @task
    def shows(holder: _Holder, after: int) -> list[int]:
        return holder.items

    @flow
    def changes() -> Any:
        holder = _Holder()
        shown = shows(holder, first())
        holder.items.append(2)
        return shown

    assert changes() == [1, 2]


class _Client:
    """Has a connection, which it closes when it is collected."""

    def __init__(self, connections: dict[str, bool]) -> None:
        self.connections = connections
        self.connections["open"] = True

    def __del__(self) -> None:
        self.connections["open"] = False


def test_a_client_that_closes_its_connection_when_it_is_collected_is_not_copied() -> None:
    connections: dict[str, bool] = {}
    client, holder = _Client(connections), _Holder()
    holder.items = [client]

    @task
    def uses(held: Any) -> bool:
        return held is holder and connections["open"]

    @flow
    def calls() -> Any:
        return [uses(holder), uses(holder)]

    assert calls() == [True, True]
    assert connections["open"]


def test_an_event_loop_is_not_copied_in_part() -> None:
    loop = asyncio.new_event_loop()
    try:
        assert OwnCopies().of({"loop": loop})["loop"] is loop
    finally:
        loop.close()


@dataclasses.dataclass
class _Limits:
    most: ClassVar[list[int]] = [9]
    items: list[Any]


@dataclasses.dataclass(slots=True)
class _Slots:
    most: ClassVar[list[int]] = [9]
    items: list[Any]


@pytest.mark.parametrize("kind", [_Limits, _Slots])
def test_the_variables_of_a_dataclass_stay_those_of_its_class(kind: Any) -> None:
    @task
    def one() -> int:
        return 1

    @task
    def shows(held: Any, other: Any) -> list[Any]:
        kind.most[0] = 5
        return [*held.most, *held.items, *other.most, *other.items]

    @flow
    def calls() -> Any:
        return shows(kind([one()]), kind([[2]]))

    assert calls() == [5, 1, 5, [2]]
    kind.most[0] = 9


class _Twice(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    amount: list[float]

    def __post_init__(self) -> None:
        self.amount.append(1.0)


class _Named(msgspec.Struct):
    """A struct whose subclasses need an argument."""

    amount: float

    def __init_subclass__(cls, *, name: str, **options: Any) -> None:
        super().__init_subclass__(**options)

    def __post_init__(self) -> None:
        self.amount += 1


@pytest.mark.parametrize("again", [lambda value: pickle.loads(dumps(value)), copied, OwnCopies().of])
def test_a_struct_is_restored_with_its_fields_and_attributes(again: Callable[[Any], Any]) -> None:
    value = _Twice(amount=[])
    vars(value)["note"] = [1]
    holder = _Holder()
    holder.items.append(value)  # type: ignore[arg-type]
    new: Any = again(holder).items[1]
    assert type(new) is _Twice
    assert new == value
    assert new.amount is not value.amount
    assert vars(new) == vars(value)


def test_a_struct_that_cannot_have_subclasses_is_restored_with_its_fields() -> None:
    assert pickle.loads(dumps(_Named(1.0))).amount == 2.0


def test_a_result_that_is_too_deep_to_be_copied_for_a_second_argument_is_a_clear_error() -> None:
    @task
    def deep() -> list[Any]:
        value: list[Any] = []
        for _ in range(3000):
            value = [value]
        return value

    @task
    def uses(one: Any, other: Any) -> int:
        return len(one) + len(other)

    @flow
    def main() -> Any:
        found = deep()
        return uses(found, found)

    with pytest.raises(SerializationError, match="nested too deeply"):
        main()
