"""Hits are correct: no stale mixture, no shared mutable value, no missing bytes, no record of unread files."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, TASK_SOURCE, Files, flow, task
from penstock.errors import ValuesChanged
from penstock.storage.results.maintenance import current_records
from penstock.storage.results.store import ResultStore
from penstock.storage.stores.addresses import open_store

Note = Callable[[object], None]
Ran = Callable[[], list[str]]


def payloads(store: Path) -> list[Path]:
    return [p for p in store.rglob("*") if p.is_file() and "results" in p.parts and not p.name.endswith(".record.json")]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


# -- equal data elsewhere ----------------------------------------------------------------------------------------------


def test_equal_data_at_another_path_is_a_hit(tmp_path: Path, note: Note, ran: Ran) -> None:
    @task(cache_policy=INPUTS - "path" + Files(parameter="path"))
    def count_lines(path: str) -> int:
        note(path)
        with open(path) as file:
            return len(file.readlines())

    one, other, different = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.csv"
    one.write_text("1\n2\n")
    other.write_text("1\n2\n")
    different.write_text("1\n2\n3\n")
    assert [count_lines(str(p)) for p in (one, other, different)] == [2, 2, 3]
    assert ran() == [str(one), str(different)]


# -- mutation ----------------------------------------------------------------------------------------------------------


def test_changing_a_returned_object_does_not_change_the_cache(runner: str) -> None:
    @task(cache_policy=INPUTS)
    def rows(n: int) -> list[dict[str, int]]:
        return [{"n": i} for i in range(n)]

    @task
    def greedy(table: list[dict[str, int]]) -> int:
        table[0]["n"] = 99
        table.clear()
        return 0

    @task
    def modest(table: list[dict[str, int]]) -> int:
        return sum(row["n"] for row in table)

    @flow
    def pipeline() -> int:
        table = rows(4)
        spoiled = greedy(table)
        mine = table.result()
        mine[1]["n"] = 77
        return modest.submit(table, wait_for=[spoiled]).result()

    assert [pipeline(), pipeline()] == [6, 6]
    assert rows(4) == [{"n": 0}, {"n": 1}, {"n": 2}, {"n": 3}]


@pytest.mark.needs("numpy")
def test_changing_a_returned_array_does_not_change_the_cache() -> None:
    import numpy

    @task(cache_policy=INPUTS)
    def zeros(n: int) -> numpy.ndarray:
        return numpy.zeros(n)

    first = zeros(5)
    first += 1
    assert zeros(5).sum() == 0


def test_changing_an_argument_after_the_call_changes_nothing() -> None:
    @task
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @flow
    def pipeline() -> int:
        numbers = [1, 2]
        called = total(numbers)
        numbers.append(100)
        return called

    assert pipeline() == 3


# -- missing and damaged bytes -----------------------------------------------------------------------------------------


def test_a_deleted_payload_is_recomputed_in_the_same_run_with_what_was_pruned(
    store: Path, runner: str, note: Note, ran: Ran
) -> None:
    @task(cache_policy=INPUTS)
    def source(n: int) -> bytes:
        note("source")
        return b"x" * n

    @task(cache_policy=INPUTS)
    def twice(data: bytes) -> bytes:
        note("twice")
        return data * 2

    @task(cache_policy=INPUTS)
    def length(data: bytes, unit: int) -> int:
        note("length")
        return len(data) // unit

    @flow
    def pipeline(unit: int) -> int:
        return length(twice(source(200_000)), unit)

    assert pipeline(1) == 400_000
    assert ran() == ["source", "twice", "length"]
    for path in payloads(store):
        path.unlink()
    run = pipeline.run(2)  # uses `twice`, which has a record but no bytes
    assert run.result() == 200_000
    assert ran() == ["source", "twice", "length"]
    assert pipeline.run(2).counts["executed"] == 0


def test_a_deleted_payload_of_a_target_is_recomputed_when_the_flow_uses_it(store: Path, note: Note, ran: Ran) -> None:
    @task(cache_policy=INPUTS)
    def source(n: int) -> bytes:
        note("source")
        return b"x" * n

    @flow
    def pipeline() -> bytes:
        return source(200_000)

    pipeline()
    for path in payloads(store):
        path.unlink()
    assert len(pipeline()) == 200_000
    assert ran() == ["source", "source"]
    assert len(pipeline()) == 200_000
    assert ran() == []


# -- input files -------------------------------------------------------------------------------------------------------


def test_a_file_that_changes_while_the_task_runs_is_not_published_under_its_old_key(tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("old")

    @task(cache_policy=INPUTS + Files(str(data)))
    def read(changing: bool) -> str:
        text = data.read_text()
        if changing:
            data.write_text("new")
        return text

    @flow
    def pipeline(changing: bool) -> str:
        return read(changing)

    assert pipeline(True) == "old"
    data.write_text("old")
    assert pipeline.plan(True).counts["miss"] == 1


def test_a_file_that_changes_between_key_and_execution_is_not_published_under_its_old_key(
    tmp_path: Path, note: Note, ran: Ran
) -> None:
    data = tmp_path / "data.txt"
    data.write_text("old")

    @task
    def overwrite() -> None:
        data.write_text("new")

    @task(cache_policy=INPUTS - "path" + Files(parameter="path"))
    def read(path: str) -> str:
        note("read")
        return Path(path).read_text()

    @flow
    def pipeline() -> str:
        changed = overwrite()
        return read.submit(str(data), wait_for=[changed]).result()

    assert pipeline() == "new"
    data.write_text("old")
    assert read(str(data)) == "old"
    assert ran() == ["read", "read"]


@pytest.mark.parametrize("how", ["appears", "vanishes"])
def test_a_result_is_not_published_if_a_file_of_its_pattern_appears_or_vanishes(
    how: str, tmp_path: Path, note: Note, ran: Ran
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "1.csv").write_text("1")
    (folder / "2.csv").write_text("2")

    @task
    def change() -> None:
        if how == "appears":
            (folder / "5.csv").write_text("5")
        else:
            (folder / "2.csv").unlink()

    @task(cache_policy=INPUTS + Files(str(folder / "*.csv")))
    def total() -> int:
        note("total")
        return sum(int(path.read_text()) for path in folder.iterdir())

    @flow
    def pipeline() -> int:
        return total.submit(wait_for=[change()]).result()

    assert pipeline() == (8 if how == "appears" else 1)
    (folder / "5.csv").unlink(missing_ok=True)
    (folder / "2.csv").write_text("2")
    assert total() == 3
    assert total() == 3
    assert ran() == ["total", "total"]


@pytest.mark.parametrize("by_parameter", [False, True])
def test_a_task_may_remove_its_input_file(by_parameter: bool, tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("once")

    @task(cache_policy=INPUTS + (Files(parameter="path") if by_parameter else Files(str(data))))
    def consume(path: str) -> str:
        text = data.read_text()
        data.unlink()
        return text

    assert consume(str(data)) == "once"


@pytest.mark.parametrize("pattern", ["data.csv", "*.csv", "*/**/data.csv"])
def test_a_file_that_changed_after_a_sync_point_counts_with_its_new_content(pattern: str, tmp_path: Path) -> None:
    data = tmp_path / "a" / "b" / "data.csv" if "**" in pattern else tmp_path / "data.csv"
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_text("9")

    @task
    def download(value: int) -> None:
        data.write_text(str(value))

    @task(cache_policy=INPUTS + Files(str(tmp_path / pattern)))
    def parse() -> int:
        return int(data.read_text())

    @flow
    def pipeline() -> list[int]:
        found = []
        for value in (0, 5, 7, 0):
            download(value).wait()
            found.append(parse().result())
        return found

    assert pipeline() == [0, 5, 7, 0]
    assert pipeline() == [0, 5, 7, 0]
    assert pipeline.plan().counts["miss"] == 0


def test_a_file_that_the_flow_writes_between_two_calls_counts_with_its_new_content(tmp_path: Path) -> None:
    @task(cache_policy=INPUTS + Files(str(tmp_path / "*.csv")))
    def total() -> int:
        return sum(int(path.read_text()) for path in tmp_path.glob("*.csv"))

    for path in ("1.csv", "2.csv"):
        (tmp_path / path).write_text(path[0])
        assert total() == (1 if path == "1.csv" else 3)
    (tmp_path / "2.csv").unlink()

    @flow
    def pipeline() -> list[int]:
        first = total()
        first.wait()
        (tmp_path / "2.csv").write_text("2")
        return [first.result(), total().result()]

    assert pipeline() == [1, 3]


# -- non-deterministic upstream ----------------------------------------------------------------------------------------


def test_a_rerun_upstream_is_never_mixed_with_downstream_results_of_its_older_value() -> None:
    draws = itertools.count()

    @task(cache_policy=INPUTS, key_name="draw")
    def draw(n: int) -> int:
        return next(draws)

    @task(cache_policy=INPUTS)
    def plus(x: int, y: int) -> int:
        return x + y

    @task(cache_policy=INPUTS)
    def minus(x: int, y: int) -> int:
        return x - y

    @flow
    def pipeline(draws_again: bool) -> tuple[int, int, int]:
        x = draw.with_options(refresh_cache=draws_again)(1)
        return x, plus(x, 10), minus(x, 10)

    assert pipeline(False) == (0, 10, -10)
    assert pipeline(True) == (1, 11, -9)
    assert pipeline(False) == (1, 11, -9)


def test_the_value_of_an_uncached_upstream_decides() -> None:
    values = itertools.chain([5, 5, 6], itertools.repeat(7))

    @task
    def measure() -> int:
        return next(values)

    @task(cache_policy=INPUTS + TASK_SOURCE)
    def describe(x: int) -> str:
        return f"<{x}>"

    @flow
    def pipeline() -> str:
        return describe(measure())

    runs = [pipeline.run() for _ in range(3)]
    assert [run.result() for run in runs] == ["<5>", "<5>", "<6>"]
    assert [run.by_task()["describe"]["executed"] for run in runs] == [1, 0, 1]


# -- values from different sources -------------------------------------------------------------------------------------


@pytest.fixture
def drawing() -> tuple[Any, Any, Any]:
    """`draw` returns another number on each execution; the others are functions of it."""
    draws = itertools.count(1)

    @task(cache_policy=INPUTS, key_name="draw")
    def draw(n: int) -> dict[str, int]:
        return {"n": next(draws), "always": 7}

    @task(cache_policy=INPUTS, key_name="double")
    def double(x: Any) -> dict[str, int]:
        return {"from": x["n"] if isinstance(x, dict) else x, "always": 7}

    @task(cache_policy=INPUTS, key_name="label")
    def label(x: dict[str, int]) -> str:
        return f"<{x['from']}>"

    return draw, double, label


def test_a_value_and_its_derivatives_agree_after_a_refresh_elsewhere(drawing: Any) -> None:
    draw, double, _ = drawing

    @flow
    def pipeline() -> Any:
        data = draw(0)
        return data, double(data)

    pipeline()
    draw.with_options(refresh_cache=True)(0)
    data, doubled = pipeline()
    assert (data["n"], doubled["from"]) == (2, 2)


def test_a_value_fetched_later_agrees_with_those_the_flow_has(drawing: Any) -> None:
    draw, double, _ = drawing

    @flow
    def pipeline() -> Any:
        data = draw(0)
        first = double(data).result()
        return first["from"], data["n"].result()

    pipeline()
    draw.with_options(refresh_cache=True)(0)
    assert pipeline() == (2, 2)


def test_a_hit_above_pruned_nodes_agrees_with_nodes_further_up(drawing: Any) -> None:
    draw, double, label = drawing

    @flow
    def pipeline() -> Any:
        data = draw(0)
        return data, label(double(data))

    pipeline()
    draw.with_options(refresh_cache=True)(0)
    data, text = pipeline()
    assert text == f"<{data['n']}>"


def test_two_hits_never_come_from_different_values_of_a_distant_ancestor(drawing: Any) -> None:
    draw, double, label = drawing

    @task(cache_policy=INPUTS, key_name="shout")
    def shout(x: dict[str, int]) -> str:
        return f"{x['from']}!"

    @flow
    def both() -> Any:
        data = draw(0)
        return label(double(data)), shout(double(data["n"]))

    @flow
    def only_one() -> Any:
        return label(double(draw.with_options(refresh_cache=True)(0)))

    assert both() == ("<1>", "1!")
    assert only_one() == "<2>"
    assert both() == ("<2>", "2!")


def test_pruned_and_deleted_results_are_not_recomputed_for_a_comparison(drawing: Any, store: Path) -> None:
    draw, double, label = drawing

    @flow
    def pipeline() -> Any:
        data = draw(0)
        return data, label(double(data))

    before = pipeline()
    results = ResultStore(open_store(str(store)))
    for record in list(current_records(results, task="double")):
        results.invalidate(record.task, record.key)
    run = pipeline.run()
    assert run.result() == before
    assert run.counts["executed"] == 0


def test_parts_held_by_a_flow_are_not_extracted_again_for_a_comparison(drawing: Any) -> None:
    draw, double, _ = drawing

    @flow
    def pipeline() -> int:
        part = draw(0)["n"]
        doubled = double(part)
        return doubled.result()["from"] + len(part.__class__.__name__)

    pipeline()
    run = pipeline.run()
    assert run.counts["executed"] == 0


def test_a_run_that_used_a_value_ends_if_recomputing_it_gives_another(store: Path) -> None:
    draws = itertools.count(1)

    @task(cache_policy=INPUTS, key_name="large draw")
    def draw(n: int) -> bytes:
        return bytes([next(draws)]) * 100_000

    @task(cache_policy=INPUTS, key_name="first byte")
    def first(data: bytes) -> int:
        return data[0]

    @flow
    def pipeline() -> tuple[int, int]:
        data = draw(0)
        number = first(data).result()
        return number, data.result()[0]

    assert pipeline() == (1, 1)
    for path in payloads(store):
        path.unlink()
    with pytest.raises(ValuesChanged, match="the result of draw changed while the run was using it"):
        pipeline()
    assert pipeline() == (2, 2)


def test_a_recomputed_value_that_differs_changes_all_that_the_flow_returns(store: Path) -> None:
    draws = itertools.count(1)

    @task(cache_policy=INPUTS, key_name="large draw")
    def draw(n: int) -> bytes:
        return bytes([next(draws)]) * 100_000

    @task(cache_policy=INPUTS, key_name="first byte")
    def first(data: bytes) -> int:
        return data[0]

    @flow
    def pipeline() -> tuple[int, bytes]:
        data = draw(0)
        return first(data), data

    pipeline()
    for path in payloads(store):
        path.unlink()
    number, data = pipeline()
    assert number == data[0] == 2


def test_many_consumers_of_one_damaged_result_recompute_it_once(store: Path, runner: str, note: Note, ran: Ran) -> None:
    @task(cache_policy=INPUTS, key_name="source of many")
    def source(n: int) -> bytes:
        note("source")
        return b"x" * n

    @task
    def length(data: bytes, number: int) -> int:
        return len(data) + number

    @flow
    def pipeline() -> int:
        data = source(200_000)
        return sum(future.result() for future in [length(data, number) for number in range(12)])

    expected = 12 * 200_000 + sum(range(12))
    assert pipeline() == expected
    assert ran() == ["source"]
    for path in payloads(store):
        path.write_bytes(b"damaged")
    assert pipeline() == expected
    assert ran() == ["source"]


# -- what it costs -----------------------------------------------------------------------------------------------------


def test_inputs_that_are_iterated_over_are_fetched_once() -> None:
    @task(cache_policy=INPUTS)
    def part(i: int) -> int:
        return i

    @task(cache_policy=INPUTS)
    def whole(xs: list[int]) -> int:
        return sum(xs)

    @flow
    def pipeline(n: int) -> int:
        parts = [part(i) for i in range(n)]
        total = whole(parts).result()
        return total + sum(each.result() for each in parts)

    pipeline(50)
    run = pipeline.run(50)
    assert (run.counts["executed"], run.stats["lookups"]) == (0, 51)
    assert run.stats["rounds"] <= 2


def test_a_warm_graph_costs_one_lookup_per_output() -> None:
    @task(cache_policy=INPUTS)
    def part(i: int) -> int:
        return i

    @task(cache_policy=INPUTS)
    def join(xs: list[int]) -> int:
        return sum(xs)

    @flow
    def pipeline() -> list[int]:
        return [join([join([part(4 * n + i), part(4 * n + i + 1)]) for i in (0, 2)]) for n in range(5)]

    pipeline()
    run = pipeline.run()
    assert (run.counts["executed"], run.stats["lookups"], run.stats["rounds"]) == (0, 5, 1)


def test_results_of_several_runs_are_compared_once(drawing: Any) -> None:
    draw, double, label = drawing

    @task(cache_policy=INPUTS, key_name="shout")
    def shout(x: dict[str, int]) -> str:
        return f"{x['from']}!"

    @flow
    def one() -> Any:
        return label(double(draw(0)))

    @flow
    def other() -> Any:
        return shout(double(draw(0)["n"]))

    @flow
    def both() -> Any:
        data = draw(0)
        return [label(double(data)), shout(double(data["n"]))]

    one(), other()
    first, second = both.run(), both.run()
    assert first.result() == second.result() == ["<1>", "1!"]
    assert first.stats["lookups"] > second.stats["lookups"] == 2
    assert (first.counts["hit"], first.counts["executed"]) == (2, 0)
