"""Small promises of large arguments that larger tests miss: a value is never taken for another one."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.digests.large import FLAT_ITEMS, LARGE_BYTES, Large, Snapshots, is_flat, snapshot
from penstock.digests.python import digest_bytes

N = LARGE_BYTES


def test_another_object_at_the_same_place_in_memory_is_another_value() -> None:
    taken = Snapshots(digest_bytes)
    first = taken.take(list(range(FLAT_ITEMS)))
    again = tuple(range(FLAT_ITEMS))
    taken._known[id(again)] = first  # as after the list was freed
    second = taken.take(again)
    assert second is not first
    assert second.shared() is again


@pytest.mark.needs("pandas")
def test_a_frame_without_a_digest_counts_as_changed() -> None:
    pd = pytest.importorskip("pandas")

    def undigestible(value: Any) -> bytes:
        raise TypeError("a cell has no digest")

    frame = pd.DataFrame({"a": range(N)})
    known, unknown = Snapshots(digest_bytes), Snapshots(undigestible)
    assert known.take(frame) is known.take(frame)
    assert unknown.take(frame) is not unknown.take(frame)


@pytest.mark.parametrize("kind", ["table", "record_batch"])
def test_an_arrow_table_is_one_large_argument_of_all_calls(kind: str) -> None:
    pa = pytest.importorskip("pyarrow")
    table = getattr(pa, kind)({"a": pa.array(range(N))})
    taken = Snapshots(digest_bytes)
    assert isinstance(taken.take(table), Large)
    assert taken.take(table) is taken.take(table)
    assert repr(taken.take(table)) == f"<a large argument, {table.nbytes:,} bytes>"


def test_a_long_list_with_anything_that_can_change_is_not_flat() -> None:
    plain = list(range(FLAT_ITEMS))
    assert is_flat(plain)
    assert is_flat(dict.fromkeys(plain))
    assert not is_flat(plain[1:])
    assert not is_flat([*plain, []])
    assert not is_flat({**dict.fromkeys(plain), -1: []})


@pytest.mark.needs("numpy")
def test_objects_in_an_array_that_only_it_could_copy_are_told() -> None:
    np = pytest.importorskip("numpy")

    class Kept(np.ndarray):  # type: ignore[misc,name-defined]
        pass

    cell: list[int] = []
    value = np.array([cell, 1], dtype=object).view(Kept)
    shared: list[Any] = []
    taken = snapshot(value, shared)
    value[1] = 2
    assert type(taken) is Kept
    assert taken[1] == 1
    assert taken[0] is cell
    assert [each is value for each in shared] == [True]
    assert snapshot(np.arange(3).view(Kept), shared).tolist() == [0, 1, 2]
    assert len(shared) == 1


@pytest.mark.needs("pandas")
def test_a_subclass_of_a_frame_is_captured_as_it_is_now() -> None:
    pd = pytest.importorskip("pandas")

    class Special(pd.DataFrame):  # type: ignore[misc,name-defined]
        @property
        def _constructor(self) -> type:
            return Special

    value = Special({"a": [1, 2]})
    shared: list[Any] = []
    taken = snapshot(value, shared)
    value.loc[0, "a"] = 9
    assert type(taken) is Special
    assert taken["a"].tolist() == [1, 2]
    assert [each is value for each in shared] == [True]
    assert snapshot(value)["a"].tolist() == [9, 2]


@pytest.mark.needs("polars")
def test_objects_in_polars_are_told_as_shared() -> None:
    pl = pytest.importorskip("polars")
    shared: list[Any] = []
    frame, objects = pl.DataFrame({"a": [1]}), pl.Series([object()], dtype=pl.Object)
    assert snapshot(frame, shared).equals(frame)
    assert shared == []
    snapshot(objects, shared)
    snapshot(pl.DataFrame({"o": objects}), shared)
    assert len(shared) == 2
