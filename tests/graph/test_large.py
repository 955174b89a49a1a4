"""Large arguments are captured, hashed and sent once for all calls with the same object, and are never stale."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from penstock.digests.large import FLAT_ITEMS, LARGE_BYTES, Large, Snapshots
from penstock.digests.python import digest, digest_bytes
from penstock.graph.arguments import capture, fill

N = LARGE_BYTES


def snapshots() -> Snapshots:
    return Snapshots(digest_bytes)


def numpy_array() -> Any:
    numpy = pytest.importorskip("numpy")
    return numpy.arange(N, dtype="f8").reshape(-1, 4)


def pandas_frame() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"a": range(N), "b": [str(n % 7) for n in range(N)]})


def polars_frame() -> Any:
    polars = pytest.importorskip("polars")
    return polars.DataFrame({"a": range(N)})


def change(value: Any) -> None:
    """Make the smallest change in place."""
    if isinstance(value, set):
        value.remove(3)
        value.add(-1)
    elif isinstance(value, list):
        value[-1] = True
    elif isinstance(value, (dict, bytearray)):
        value[5] = 7
    elif type(value).__name__ == "ndarray":
        value[-1, -1] = -0.0
    elif type(value).__module__.startswith("pandas"):
        value.loc[5, "a"] = -1
    else:
        value[5, "a"] = -1


WRITABLE: list[Any] = [
    pytest.param(lambda: bytearray(N), id="bytearray"),
    pytest.param(lambda: [float(n) for n in range(FLAT_ITEMS - 1)] + [1], id="list"),
    pytest.param(lambda: dict.fromkeys(range(FLAT_ITEMS)), id="dict"),
    pytest.param(lambda: set(range(FLAT_ITEMS)), id="set"),
    pytest.param(numpy_array, id="numpy", marks=pytest.mark.needs("numpy")),
    pytest.param(lambda: numpy_array().T, id="numpy of another order", marks=pytest.mark.needs("numpy")),
    pytest.param(lambda: numpy_array()[::2], id="numpy view", marks=pytest.mark.needs("numpy")),
    pytest.param(pandas_frame, id="pandas", marks=pytest.mark.needs("pandas")),
    pytest.param(polars_frame, id="polars", marks=pytest.mark.needs("polars")),
]
CONSTANT: list[Any] = [
    pytest.param(lambda: b"x" * N, id="bytes"),
    pytest.param(lambda: "x" * N, id="str"),
    pytest.param(lambda: tuple(range(FLAT_ITEMS)), id="tuple"),
]


@pytest.mark.parametrize("make", [*WRITABLE, *CONSTANT])
def test_the_same_object_is_one_large_argument(make: Callable[[], Any]) -> None:
    value, taken = make(), snapshots()
    kept = capture([value, {"again": value}], taken.take)
    assert type(kept[0]) is Large
    assert kept[0] is kept[1]["again"]
    assert digest(kept) == digest([value, {"again": value}])
    (first, rest) = fill(kept, lambda ref: ref)
    assert type(first) is type(value)
    assert digest([first, rest]) == digest(kept)


@pytest.mark.parametrize("make", WRITABLE)
def test_a_change_between_two_calls_is_a_new_value(make: Callable[[], Any]) -> None:
    value, taken = make(), snapshots()
    before, was = taken.take(value), digest(value)
    change(value)
    after = taken.take(value)
    assert after is not before
    assert (digest(before), digest(after)) == (was, digest(value))


@pytest.mark.parametrize("make", WRITABLE)
def test_changes_a_call_makes_to_its_large_argument_stay_in_that_call(make: Callable[[], Any]) -> None:
    value = make()
    kept, was = snapshots().take(value), digest(value)
    change(kept.take())
    assert digest(kept.take()) == was
    assert digest(value) == was


@pytest.mark.needs("numpy")
def test_a_changed_sign_of_zero_is_a_change() -> None:
    import numpy

    value, taken = numpy.zeros(N), snapshots()
    before = taken.take(value)
    value[7] = -0.0
    assert taken.take(value) is not before


@pytest.mark.needs("numpy")
def test_a_view_that_others_can_write_through_is_copied() -> None:
    import numpy

    base = numpy.zeros(N)
    view = base.view()
    view.flags.writeable = False
    kept = snapshots().take(view)
    base[0] = 1
    assert kept.take()[0] == 0


@pytest.mark.needs("numpy")
def test_small_values_and_arrays_of_objects_are_captured_with_each_call() -> None:
    import numpy

    taken = snapshots()
    for value in (b"x", list(range(10)), numpy.zeros(8), numpy.array([None] * N), [[1]] * FLAT_ITEMS):
        assert type(capture(value, taken.take)) is not Large


def test_a_large_argument_is_sent_by_name() -> None:
    kept = snapshots().take(b"x" * N)
    digest(kept)
    kept.handle = "there"
    here = pickle.loads(pickle.dumps(kept))
    assert len(pickle.dumps(kept)) < 500
    assert (here.name, here.handle) == (kept.name, "there")
    assert digest(here) == digest(kept)
