"""Tasks that take stored tables lazily, and what users get of results without their values."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

import penstock
from penstock import INPUTS, StoredResult, flow, task
from penstock.environments import Environment
from penstock.errors import SerializationError, TracingError
from penstock.runs import Run
from penstock.settings import Settings, current_settings, load_settings
from penstock.storage.results import maintenance
from penstock.testing.runners import tasks
from penstock.worker.lazy_inputs import lazy_parameters

if TYPE_CHECKING:
    import pyarrow.dataset as pads

ROWS = 20_000


@task(cache_policy=INPUTS - "log")
def large(rows: int, log: str = "") -> Iterator[pa.RecordBatch]:
    if log:
        tasks.mark(log, "large")
    for start in range(0, rows, 1_000):
        yield pa.record_batch({"n": range(start, start + 1_000), "x": [n * 0.37 for n in range(start, start + 1_000)]})


@task
def plain(rows: int) -> pa.Table:
    return pa.table({"n": range(rows)})


@task(cache_policy=INPUTS - "log")
def total(table: ds.Dataset, log: str = "") -> int:
    if log:
        tasks.mark(log, "total")
    assert isinstance(table, ds.Dataset)
    return sum(pc.sum(batch["n"]).as_py() for batch in table.to_batches(columns=["n"]))


@task(cache_policy=INPUTS)
def sums(tables: list[ds.Dataset]) -> list[float]:
    return [pc.sum(table.to_table(columns=["x"])["x"]).as_py() for table in tables]


@task(cache_policy=INPUTS)
def rows_of(table: Any) -> int:
    return int(cast(pa.Table, table).num_rows)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(overrides={"store": str(tmp_path / "store"), "runner": "threads?workers=2"})


@pytest.fixture(params=["threads?workers=2", pytest.param("processes?workers=1", marks=pytest.mark.slow)])
def any_settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    return settings.with_values(runner=request.param)


def run(function: Any, settings: Settings, **parameters: Any) -> Run[Any]:
    done: Run[Any] = function.run_with(parameters, settings=settings)
    done.result()
    return done


@flow
def totals() -> Any:
    table: Any = large(ROWS)
    return total(table), sums([table, cast(Any, large(1_000))]), total(plain(10)), rows_of(table)


def test_one_task_takes_a_stored_table_lazily_and_another_whole(settings: Settings) -> None:
    done = run(totals, settings)
    assert done.result() == (
        ROWS * (ROWS - 1) // 2,
        [pytest.approx(0.37 * ROWS * (ROWS - 1) / 2), pytest.approx(0.37 * 1_000 * 999 / 2)],
        45,
        ROWS,
    )
    again = run(totals, settings)
    assert again.result() == done.result()
    assert again.counts["executed"] == 1, "only the task without a key"


def test_a_key_is_the_same_for_a_lazy_and_a_loaded_table(tmp_path: Path) -> None:
    settings = load_settings(overrides={"store": str(tmp_path / "store"), "runner": "threads"})

    @task(cache_policy=INPUTS, key_name="count")
    def lazily(table: ds.Dataset) -> int:
        return int(table.count_rows())

    @task(cache_policy=INPUTS, key_name="count")
    def whole(table: pa.Table) -> int:
        raise AssertionError("it is known")

    @flow
    def both() -> tuple[int, int]:
        table: Any = large(1_000)
        first = lazily(table)
        return first, whole(table, wait_for=[first])

    assert run(both, settings).result() == (1_000, 1_000)


@flow
def damaged_while_it_is_scanned(log: str) -> int:
    stored = cast(Any, large(ROWS, log)).stored()
    with open(stored.path, "r+b") as file:
        file.seek(os.path.getsize(stored.path) // 3)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))
    table: Any = large(ROWS, log)
    return total(table, log)


@flow
def gone_before_it_is_scanned(log: str) -> int:
    table: Any = large(ROWS, log)
    os.unlink(table.stored().path)
    return total(table, log)


@pytest.mark.parametrize("damaging", [damaged_while_it_is_scanned, gone_before_it_is_scanned])
def test_a_damaged_lazy_table_is_recomputed_in_the_same_run(
    any_settings: Settings, tmp_path: Path, damaging: Any
) -> None:
    assert run(damaging, any_settings, log=str(tmp_path)).result() == ROWS * (ROWS - 1) // 2
    assert tasks.marks(str(tmp_path), "large") == 2


in_parts = large.with_options(result_serializer="parquet/dataset")


@flow
def removed_while_it_is_used(log: str, how: str) -> int:
    return removes_and_adds(in_parts(ROWS, log), how, log)


@task(cache_policy=INPUTS - "log")
def removes_and_adds(table: Any, how: str, log: str) -> int:
    if not tasks.marks(log, "removed"):
        tasks.mark(log, "removed")
        results = Environment(current_settings()).results()
        assert maintenance.rm(results, large.task_key) == 1
        maintenance.gc(results, grace_seconds=0)
    try:
        numbers = table.to_table(columns=["n"])["n"]
    except OSError as error:
        if how == "as it is":
            raise
        raise RuntimeError("cannot read the table") from error
    return int(pc.sum(numbers).as_py())


@pytest.mark.parametrize("how", ["as it is", "inside of another"])
def test_a_dataset_whose_files_are_removed_during_a_task_is_recomputed(
    how: str, tmp_path: Path, any_settings: Settings
) -> None:
    log = str(tmp_path / "log")
    os.mkdir(log)
    assert run(removed_while_it_is_used, any_settings, log=log, how=how).result() == sum(range(ROWS))
    assert tasks.marks(log, "large") == 2


def test_a_missing_file_of_the_task_itself_is_not_blamed_on_its_inputs(any_settings: Settings, tmp_path: Path) -> None:
    @task(cache_policy=INPUTS)
    def opens(table: Any) -> int:
        return len(Path("not there").read_text())

    log = str(tmp_path / "log")
    os.mkdir(log)
    with pytest.raises(FileNotFoundError, match="not there"):
        run(flow(lambda log: opens(in_parts(ROWS, log))), any_settings, log=log)
    assert tasks.marks(log, "large") == 1


def test_a_value_that_is_not_a_table_cannot_be_taken_lazily(settings: Settings) -> None:
    @task(cache_policy=INPUTS)
    def number() -> int:
        return 7

    @flow
    def wrong() -> int:
        return total(cast(Any, number()))

    with pytest.raises(SerializationError, match="cannot be scanned"):
        run(wrong, settings)


# -- which parameters


def test_parameters_annotated_as_datasets_are_lazy_in_containers_too() -> None:
    def each(
        one: ds.Dataset,
        other: ds.FileSystemDataset,
        many: list[ds.Dataset],
        named: dict[str, ds.Dataset],
        perhaps: ds.Dataset | None,
        unseen: pads.Dataset,
        table: pa.Table,
        number: int,
        *rest: ds.Dataset,
        nothing: Any = None,
    ) -> ds.Dataset: ...

    assert lazy_parameters(each) == {"one", "other", "many", "named", "perhaps", "unseen", "rest"}
    each.__annotations__ = {"one": ds.Dataset, "many": list[ds.Dataset], "table": pa.Table, "odd": "1 +", "number": 7}
    assert lazy_parameters(each) == {"one", "many"}
    assert lazy_parameters(len) == frozenset()


# -- StoredResult


def test_a_run_returns_its_stored_results(settings: Settings) -> None:
    done = run(totals, settings)
    assert [stored.record.about.rows for stored in done.stored("large")] == [ROWS, 1_000]
    assert len(done.stored()) == 6
    (rows,) = run(totals, settings).stored(rows_of)
    assert rows.load() == ROWS
    assert penstock.stored(rows_of, rows.record.key, settings=settings) is not None
    assert done.stored("plain") == []
    found = penstock.stored(rows.record.task, rows.record.key, store=settings.store)
    assert found is not None
    assert found.record == rows.record
    assert penstock.stored("no:task", "key", store=settings.store) is None


def test_a_warm_run_returns_the_stored_results_of_its_pruned_calls_too(settings: Settings) -> None:
    @task(cache_policy=INPUTS)
    def doubled(rows: int) -> int:
        return 2 * rows

    @flow
    def chain() -> int:
        return doubled(rows_of(cast(Any, large(2_000))))

    cold, warm = run(chain, settings), run(chain, settings)
    assert (warm.counts["hit"], warm.counts["pruned"]) == (1, 2)
    assert [stored.record for stored in warm.stored()] == [stored.record for stored in cold.stored()]
    assert len(warm.stored()) == 3
    assert [stored.record.about.rows for stored in warm.stored("large")] == [2_000]
    assert [stored.load() for stored in warm.stored(rows_of)] == [2_000]


def test_a_failed_run_returns_no_earlier_results_of_calls_it_never_decided(settings: Settings) -> None:
    @flow
    def halfway(fail: bool) -> int:
        if fail:
            large(1_000)
            raise ZeroDivisionError
        return rows_of(cast(Any, large(1_000)))

    run(halfway, settings, fail=False)
    failed = halfway.run_with({"fail": True}, settings=settings)
    assert failed.state == "failed"
    assert failed.stored() == []


def test_results_removed_since_a_run_are_not_returned(settings: Settings) -> None:
    from penstock.storage import open_store
    from penstock.storage.results import maintenance
    from penstock.storage.results.store import ResultStore

    done = run(totals, settings)
    (first, _) = done.stored("large")
    maintenance.rm(ResultStore(open_store(settings.store)), first.record.task, first.record.key)
    assert [stored.record.about.rows for stored in done.stored("large")] == [1_000]


def test_a_stored_result_of_one_flow_can_be_an_input_of_another(settings: Settings) -> None:
    (table, _) = run(totals, settings).stored("large")

    @flow
    def later(table: StoredResult) -> int:
        return total(cast(Any, table))

    first = run(later, settings, table=table)
    assert first.result() == ROWS * (ROWS - 1) // 2
    assert run(later, settings, table=table).counts["hit"] == 1


def test_a_future_returns_its_stored_result_without_the_value(settings: Settings) -> None:
    @flow
    def looking() -> tuple[int, int]:
        table = large.submit(ROWS)
        stored = table.stored()
        assert isinstance(stored, StoredResult)
        return stored.record.about.rows, stored.scan().count_rows()

    assert run(looking, settings).result() == (ROWS, ROWS)
    assert looking.plan_with({}, settings=settings).counts["hit"] == 1


def test_a_future_without_a_stored_result_says_so(settings: Settings) -> None:
    @flow
    def looking() -> Any:
        return plain.submit(3).stored()

    with pytest.raises(TracingError, match="plain has no stored result"):
        run(looking, settings)


def test_stored_of_a_failed_future_raises_its_exception(settings: Settings) -> None:
    @task(cache_policy=INPUTS)
    def failing() -> int:
        raise ZeroDivisionError

    @flow
    def looking() -> Any:
        return failing.submit().stored()

    with pytest.raises(ZeroDivisionError):
        run(looking, settings)
