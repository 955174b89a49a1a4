"""What a task's code reads, and what of that it modifies itself."""

from __future__ import annotations

import collections
import functools
import heapq
import operator
from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest

from penstock.graph.constants.contents import content_of
from penstock.graph.constants.modified import modified_by
from penstock.graph.constants.places import places_of
from penstock.graph.constants.turns import Turns

CONFIG: dict[str, Any] = {}
COUNT = 0


class Held:
    kept: Any = None

    def store(self, value: Any) -> None:
        self.kept = value

    def __call__(self) -> None:
        self.called = True


HELD = Held()


def fill(target: Any, key: str) -> None:
    target[key] = 1


def fill_through(target: Any) -> None:
    fill(target, "a")


def fill_by_name(*, target: Any) -> None:
    target.update(a=1)


def read(target: Any) -> Any:
    return target["a"]


def assigns_items() -> None:
    CONFIG["a"]["b"] = 1


def deletes_items() -> None:
    del CONFIG["a"]


def calls_methods() -> None:
    CONFIG.setdefault("a", 1)


def assigns_globals() -> None:
    global COUNT
    COUNT = 1


def sets_attributes() -> None:
    setattr(HELD, "kept", 1)  # noqa: B010 (this is under test)


def assigns_in_a_namespace() -> None:
    vars(HELD)["kept"] = 1


def renames() -> None:
    first = second = CONFIG
    first["a"] = second


def modifies_items_of_a_loop() -> None:
    for value in CONFIG.values():
        value["a"] = 1


def renames_in_a_condition() -> None:
    if held := CONFIG.get("a"):
        held.clear()


def passes() -> None:
    fill_through(CONFIG)


def passes_by_name() -> None:
    fill_by_name(target=CONFIG)


def pushes() -> None:
    heapq.heappush(CONFIG["rows"], 1)


def assigns_annotated() -> None:
    held: Any = CONFIG
    held["a"] = 1


def calls_a_method() -> None:
    HELD.store(1)


FUNCTIONS = (fill, fill_through, fill_by_name, read, Held.store)


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (assigns_items, "CONFIG"),
        (deletes_items, "CONFIG"),
        (calls_methods, "CONFIG"),
        (assigns_globals, "COUNT"),
        (sets_attributes, "kept"),
        (assigns_in_a_namespace, "kept"),
        (renames, "CONFIG"),
        (modifies_items_of_a_loop, "CONFIG"),
        (renames_in_a_condition, "CONFIG"),
        (passes, "CONFIG"),
        (passes_by_name, "CONFIG"),
        (pushes, "CONFIG"),
        (assigns_annotated, "CONFIG"),
        (calls_a_method, "kept"),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_code_modifies(fn: FunctionType, name: str) -> None:
    assert any(name in names for names in modified_by([fn], FUNCTIONS))  # type: ignore[list-item]


def reads() -> Any:
    return read(CONFIG) or CONFIG["a"] or CONFIG.get("b") or HELD.kept


def has_locals() -> list[Any]:
    CONFIGURED = value = 0
    rows = [CONFIGURED]
    rows.append(value)
    for row in rows:
        value += row
    return rows


def counts_an_item() -> int:
    number: int = CONFIG["a"]
    number += 1
    return number


@pytest.mark.parametrize("fn", [reads, has_locals, counts_an_item])
def test_code_that_only_reads_modifies_nothing(fn: FunctionType) -> None:
    assert not any(modified_by([fn], FUNCTIONS))  # type: ignore[list-item]


def test_methods_that_are_not_called_do_not_count() -> None:
    assert "kept" not in modified_by([reads], [Held.store]).assigned  # type: ignore[list-item]
    assert "called" in modified_by([reads], [Held.__call__]).assigned  # type: ignore[list-item]


def test_code_without_a_source_modifies_nothing_that_is_known() -> None:
    scope: dict[str, Any] = {"CONFIG": CONFIG}
    exec("def fn():\n    CONFIG['a'] = 1\n", scope)
    assert not any(modified_by([scope["fn"]]))


class Callable_:
    def __init__(self, level: int) -> None:
        self.level = level

    @property
    def half(self) -> int:
        return LEVELS[0]

    @staticmethod
    def fixed() -> int:
        return LEVELS[0]

    @classmethod
    def shared(cls) -> int:
        return LEVELS[0]

    def __call__(self) -> int:
        return LEVELS[0]


LEVELS = [0]


@functools.cache
def cached() -> int:
    return LEVELS[0]


def imports() -> int:
    from tests.graph import test_constants

    return test_constants.LEVELS[0]


def asks_a_property() -> int:
    return Callable_(1).half


BEHIND: dict[str, Callable[[], int]] = {
    "an object": Callable_(1),
    "a static method": Callable_(1).fixed,
    "a class method": Callable_.shared,
    "a cache": cached,
    "an import": imports,
    "a property": asks_a_property,
    "a partial": functools.partial(asks_a_property),
}


@pytest.mark.parametrize("fn", BEHIND.values(), ids=BEHIND)
def test_constants_are_found_behind(fn: Callable[[], int]) -> None:
    found = places_of(fn, globals_count=True).found
    assert all(unchanged() for unchanged in found)
    LEVELS[0] += 1
    assert not all(unchanged() for unchanged in found)


def test_items_that_reading_adds_are_no_change() -> None:
    rows: dict[str, list[int]] = collections.defaultdict(list, a=[1])

    def reading() -> Any:
        return rows["b"]

    found = places_of(reading, globals_count=False).found
    assert reading() == []
    assert all(unchanged() for unchanged in found)
    rows["a"] = [2]
    assert not all(unchanged() for unchanged in found)


def test_of_large_containers_only_the_number_of_items_is_compared() -> None:
    rows = list(range(200_000))

    def reading() -> int:
        return len(rows)

    _, length = places_of(reading, globals_count=False).found
    rows[0] = 1
    assert length()
    rows.append(1)
    assert not length()


@pytest.mark.needs("numpy")
def test_small_arrays_are_compared_by_content_and_large_ones_by_identity() -> None:
    import numpy as np

    large, objects, small = np.zeros(100_000), np.array([None, 1]), np.zeros(3)

    def reading() -> Any:
        return large, objects, small

    cells, items, content = places_of(reading, globals_count=False).found
    large[0] = 1
    assert cells()
    assert items()
    assert content()
    objects[0] = "other"
    assert not items()
    small.shape = (1, 3)
    assert not content()


@pytest.mark.needs("pandas")
def test_the_labels_of_small_pandas_tables_are_compared() -> None:
    import pandas as pd

    series, frame = pd.Series([1], name="a"), pd.DataFrame({"a": [1]})

    def reading() -> Any:
        return series, frame

    cells, first, second = places_of(reading, globals_count=False).found
    assert cells()
    assert first()
    assert second()
    series.name = "b"
    frame.attrs["unit"] = "m"
    assert not first()
    assert not second()


@pytest.mark.needs("polars")
def test_small_polars_tables_are_compared_by_content() -> None:
    import polars as pl

    table = pl.DataFrame({"a": [1, 2]})

    def reading() -> Any:
        return table

    _, content = places_of(reading, globals_count=False).found
    assert content()
    table[0, "a"] = 3
    assert not content()


def modifies_numbered_items() -> None:
    for _, value in enumerate(CONFIG.values()):
        value["a"] = 1


def test_code_modifies_what_it_numbers() -> None:
    assert "CONFIG" in modified_by([modifies_numbered_items]).stored  # type: ignore[list-item]


def keeps_in_a_default(x: int, table: dict[str, int] = {"base": 1}, memo: dict[int, int] = {}) -> int:  # noqa: B006
    memo.setdefault(x, x)
    return memo[x] + table["base"]


def sets_item_of(memo: dict[int, int], x: int) -> None:
    memo[x] = x


def passes_a_default_on(x: int, *, memo: dict[int, int] = {}) -> int:  # noqa: B006
    sets_item_of(memo, x)
    return x


def sets_by_operator(x: int) -> None:
    operator.setitem(CONFIG, "a", x)


@pytest.mark.parametrize("fn", [keeps_in_a_default, passes_a_default_on])
def test_a_default_that_its_function_fills_is_no_constant(fn: Any) -> None:
    certain = places_of(fn, globals_count=True).certain
    fn(7)
    assert all(unchanged() for unchanged in certain)


def test_a_default_that_its_function_only_reads_is_a_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    certain = places_of(keeps_in_a_default, globals_count=True).certain
    assert keeps_in_a_default.__defaults__ is not None
    monkeypatch.setitem(keeps_in_a_default.__defaults__[0], "base", 2)
    assert not all(unchanged() for unchanged in certain)


def test_operators_modify_their_first_argument() -> None:
    assert "CONFIG" in modified_by([sets_by_operator]).stored  # type: ignore[list-item]


@pytest.mark.needs("pandas")
def test_tables_of_many_cells_are_compared_by_identity() -> None:
    import pandas as pd

    assert content_of(pd.DataFrame([[0] * 20] * 50), pd.DataFrame) is not None
    assert content_of(pd.DataFrame([[0] * 21] * 50), pd.DataFrame) is None


def test_code_that_is_noted_later_is_told_to_the_witnesses_there_are() -> None:
    class Witness:
        told: list[Any] = []  # noqa: RUF012

        def beside(self, others: Any) -> None:
            self.told += others

    turns = Turns()
    turns.watch("task", Witness(), "code")  # type: ignore[arg-type]
    turns.note_code(modified_by)
    turns.note_code(modified_by)
    assert len(Witness.told) == 1
