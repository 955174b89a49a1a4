"""A call receives the value from which its key was made, and no result is stored under another key."""

from __future__ import annotations

import array
import collections
import dataclasses
import io
import os
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock import INPUTS, flow, register_digest, task
from penstock.digests.large import snapshot
from penstock.errors import DigestError
from penstock.imported import loaded
from penstock.objects.copies import own_copy


@dataclasses.dataclass
class Held:
    x: list[int]


def _grow(value: Any) -> None:
    if isinstance(value, Held | Struct):
        value.x.append(9)
    elif isinstance(value, dict):
        value["z"] = 9
    else:
        value.append(9)


class Struct(msgspec.Struct, frozen=True):
    x: list[int]


@pytest.mark.parametrize(
    "value",
    [
        collections.deque([1]),
        collections.OrderedDict(a=1),
        collections.defaultdict(int, a=1),
        collections.Counter(a=2),
        array.array("i", [1]),
        Held([1]),
        Struct([1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_snapshot_does_not_change_with_the_value(value: Any) -> None:
    before, taken = repr(value), snapshot(value)
    _grow(value)
    assert repr(taken) == before
    assert type(taken) is type(value)


@pytest.mark.needs("pandas")
def test_a_snapshot_has_its_own_closure_cells() -> None:
    import numpy
    import pandas

    frame, cells = pandas.DataFrame({"a": [[1]]}), numpy.array([[1], [2, 3]], dtype=object)
    taken = snapshot(frame), snapshot(cells)
    frame.iloc[0, 0].append(9)
    cells[0].append(9)
    assert taken[0].iloc[0, 0] == [1]
    assert list(taken[1]) == [[1], [2, 3]]


@pytest.mark.needs("pydantic")
def test_a_snapshot_of_a_model_does_not_change_with_the_model() -> None:
    import pydantic

    class Model(pydantic.BaseModel, extra="allow"):
        x: list[int]
        y: int = 1
        _own: list[int] = pydantic.PrivateAttr(default_factory=list)

    shared: list[Any] = []
    model = Model.model_validate({"x": [1], "other": [1]})
    taken = snapshot(model, shared)
    assert taken == model
    model.x.append(2)
    model.y = 2
    model._own.append(2)
    assert model.model_extra is not None
    model.model_extra["other"].append(2)
    assert (taken.x, taken.y, taken._own, taken.model_extra) == ([1], 1, [], {"other": [1]})
    assert taken.model_fields_set == {"x", "other"}
    assert shared == []


@pytest.mark.needs("attrs")
def test_a_snapshot_of_an_attrs_object_does_not_change_with_the_object() -> None:
    import attrs

    @attrs.frozen
    class Held:
        x: list[int]
        _y: list[int]

    held, shared = Held([1], [1]), list[Any]()
    taken = snapshot(held, shared)
    held.x.append(2)
    held._y.append(2)
    assert taken == Held([1], [1])
    assert shared == []


def test_a_value_that_cannot_be_copied_is_noted() -> None:
    inner, shared = io.StringIO(), list[Any]()
    assert snapshot(collections.deque([inner]), shared)[0] is inner
    assert shared == [inner]


def test_a_read_only_view_is_copied_as_a_view_of_a_copy() -> None:
    behind = {"x": [1]}
    twin = own_copy(types.MappingProxyType(behind))
    keys = own_copy(behind.keys())
    behind["x"].append(9)
    behind["y"] = []
    assert type(twin) is types.MappingProxyType
    assert twin == {"x": [1]}
    assert type(keys) is type(behind.keys())
    assert list(keys) == ["x"]


def test_a_view_of_memory_is_copied_with_its_memory() -> None:
    memory = bytearray(b"abcd")
    twin = own_copy(memoryview(memory).cast("H"))
    memory[0] = 0
    assert twin.tobytes() == b"abcd"
    assert twin.format == "H"


@pytest.mark.needs("pandas")
def test_a_copy_keeps_columns_of_objects() -> None:
    import pandas

    cells = [
        [pandas.Timestamp("2020"), pandas.NaT],
        ["a", pandas.NA],
        [pandas.Timedelta(1, "s"), pandas.Timedelta(2, "s")],
        [[1], "a"],
        [pandas.Timestamp("2020"), [1]],
    ]
    assert loaded("pandas") is not None
    for each in cells:
        series = pandas.Series(each, dtype=object)
        frame = pandas.DataFrame({"s": series}).set_flags(allows_duplicate_labels=False)
        frame.attrs["x"] = 1
        twin = own_copy(frame)
        for copy in (own_copy(series), twin["s"]):
            assert copy.dtype == object
            assert list(map(type, copy)) == list(map(type, each))
        assert twin.attrs == {"x": 1}
        assert not twin.flags.allows_duplicate_labels


class _Registered:
    def __init__(self) -> None:
        self.x = [1]


register_digest(_Registered, lambda each: list(each.x))


@task(cache_policy=INPUTS)
def _told(value: _Registered) -> str:
    return repr(value.x)


def test_a_result_is_never_published_under_the_key_of_another_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))

    @flow
    def changes() -> str:
        value = _Registered()
        told = _told(value)
        value.x.append(9)
        return told

    @flow
    def keeps() -> str:
        return _told(_Registered())

    with pytest.raises(DigestError, match="changed after the call"):
        changes()
    assert keeps() == "[1]"


@task(cache_policy=INPUTS)
def _applied(to_apply: Callable[[int], int]) -> int:
    return to_apply(1)


def _changed(calls: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DigestError:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    with pytest.raises(DigestError, match="changed after the call") as raised:
        flow(calls)()
    return raised.value


def test_an_error_names_the_variable_of_a_function_that_changed_after_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def calls() -> list[int]:
        return [_applied(lambda v: v + k) for k in range(3)]  # noqa: B023 (the mistake that is reported)

    error = _changed(calls, tmp_path, monkeypatch)
    assert error.where == "arguments['to_apply']: closure variable k"
    assert error.hint is not None
    assert "(lambda v, k=k: ...)" in error.hint
    assert "copy" not in error.hint

    @flow
    def bound() -> list[int]:
        return [_applied(lambda v, k=k: v + k) for k in range(3)]

    assert bound() == [1, 2, 3]


def test_an_error_names_the_variables_of_a_function_of_which_one_was_modified_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def calls() -> list[int]:
        found, first, adding = [0], 1, max
        del found[:]

        def add(v: int) -> int:
            return adding(v, len(found) + first)

        first = _applied(add)
        found.append(2)
        return [first]

    error = _changed(calls, tmp_path, monkeypatch)
    assert error.where == "arguments['to_apply']: one of the closure variables adding, first, found"
    assert error.hint is not None
    assert "(def add(v, adding=adding, first=first, found=found)), as a copy if" in error.hint


def test_an_error_does_not_blame_variables_of_a_function_if_another_object_may_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def calls() -> Any:
        value, k = _Registered(), 1
        told = _told([value, lambda: k])  # type: ignore[arg-type]
        value.x.append(k)
        return told

    assert _changed(calls, tmp_path, monkeypatch).where == "arguments['value']"


@task(cache_policy=INPUTS - "lock")
def _grows(value: _Registered, lock: Any) -> str:
    value.x.append(2)
    return repr(value.x)


def test_a_cached_task_may_change_its_copy_of_an_object_also_if_another_cannot_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))

    @flow
    def grows() -> Any:
        value, lock = _Registered(), threading.Lock()
        return _grows(value, lock), value.x

    for _ in range(2):
        assert grows() == ("[1, 2]", [1])


@task(cache_policy=INPUTS)
def _much() -> list[int]:
    return [1] * 20_000


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_a_payload_that_is_not_a_file_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))

    @flow
    def counts() -> int:
        return len(_much())

    assert counts() == 20_000
    (payload,) = [p for p in (tmp_path / "store" / "results").rglob("*.json") if not p.name.endswith("record.json")]
    payload.unlink()
    make(payload)
    assert counts() == 20_000
