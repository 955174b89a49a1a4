"""Changes of constants that are easily overlooked: the order of a dict, views, signs of zeros, defaults of methods."""

from __future__ import annotations

import collections
import enum
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, TASK_CODE, flow, task

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

CODE = INPUTS + TASK_CODE
ORDERED = collections.OrderedDict(a=1, b=2)
BASE = {"a": 1}
VIEW = BASE.keys()
GROUPS: dict[str, Any] = collections.defaultdict(list)
CELLS = np.empty(1, object)
CELLS[0] = [0]
NUMBERS = np.zeros(1, "i8")
FRAME = pd.DataFrame({"a": [0.0], "b": ["x"]})
FLOATS = pd.DataFrame({"a": [0.0]})
NULLABLE = pd.DataFrame({"a": pd.array([0.0, None], dtype="Float64")})
LABELED = pd.DataFrame({"a": [0]}, index=pd.Index([1], dtype="int64"))
POLARS = pl.DataFrame({"a": [0.0], "b": ["x"]})


class Holder:
    def of_default(self, held: list[int] = [0]) -> int:  # noqa: B006 (this is under test)
        return held[0]

    @staticmethod
    def of_named(*, held: dict[str, int] = {}) -> int:  # noqa: B006
        return held.get("level", 0)


class Level(enum.Enum):
    ONE = 1

    def of_member(self) -> int:
        return int(getattr(self, "level"))  # noqa: B009


def _order(level: int) -> None:
    ORDERED.move_to_end("a" if level else "b")


def _view(level: int) -> None:
    BASE.pop("z", None)
    if level:
        BASE["z"] = level


def _factory(level: int) -> None:
    GROUPS.default_factory = str if level else list  # type: ignore[attr-defined]


def _cell(level: int) -> None:
    CELLS[0][0] = level


def _dtype(level: int) -> None:
    NUMBERS.dtype = "f8" if level else "i8"
    NUMBERS.view("i8")[0] = 7


def _sign(level: int) -> None:
    zero = -0.0 if level else 0.0
    FRAME.iloc[0, 0] = FLOATS.iloc[0, 0] = NULLABLE.iloc[0, 0] = POLARS[0, "a"] = zero


def _labels(level: int) -> None:
    LABELED.index = LABELED.index.astype("int8" if level else "int64")


def _default(level: int) -> None:
    Holder.of_default.__defaults__[0][0] = level  # type: ignore[index]


def _named_default(level: int) -> None:
    Holder.of_named.__kwdefaults__["held"].clear()  # type: ignore[union-attr]
    if level:
        Holder.of_named.__kwdefaults__["held"]["level"] = level  # type: ignore[union-attr]


def _member(level: int) -> None:
    Level.ONE.level = level  # type: ignore[attr-defined]


READ: dict[str, tuple[Callable[[int], Any], Callable[[int], None]]] = {
    "order of an OrderedDict": (lambda x: list(ORDERED), _order),
    "dict behind a view": (lambda x: list(VIEW), _view),
    "factory of a defaultdict": (lambda x: str(GROUPS.default_factory), _factory),  # type: ignore[attr-defined]
    "object in an array": (lambda x: CELLS[0][0], _cell),
    "dtype of an array": (lambda x: str(NUMBERS.tolist()), _dtype),
    "sign of a zero": (lambda x: str(FRAME.iloc[0, 0]), _sign),
    "sign among floats": (lambda x: str(FLOATS.iloc[0, 0]), _sign),
    "sign of a nullable zero": (lambda x: str(NULLABLE.iloc[0, 0]), _sign),
    "sign in polars": (lambda x: str(POLARS["a"][0]), _sign),
    "dtype of labels": (lambda x: str(LABELED.index.dtype), _labels),
    "default of a method": (lambda x: Holder().of_default(), _default),
    "named default of a static method": (lambda x: Holder.of_named(), _named_default),
    "attribute of an enum member": (lambda x: Level.ONE.of_member(), _member),
}


@pytest.mark.parametrize("what", READ)
def test_a_change_that_is_easily_overlooked_counts(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    function, change = READ[what]
    read = task(name="read", cache_policy=CODE)(function)

    @flow
    def changing(levels: list[int]) -> list[tuple[Any, Any]]:
        found = []
        for level in levels:
            change(level)
            found.append((read(level).result(), function(level)))
            found.append((read(0).result(), function(0)))
        return found

    for levels in ([0, 5, 0], [5, 0]):
        for got, right in changing(levels):
            assert got == right
    assert function(0) == read.fn(0)


def test_an_untouched_class_has_no_changed_defaults() -> None:
    from penstock.digests.definitions.attached import attached
    from penstock.digests.names import is_project_module

    _default(0)
    _named_default(0)
    assert [name for name, _ in attached(Holder, is_project_module)] == []
    _default(1)
    assert [name for name, _ in attached(Holder, is_project_module)] == ["of_default held"]
    _default(0)
