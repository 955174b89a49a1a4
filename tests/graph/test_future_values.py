"""Each future has its own value: changes that the flow makes reach no other future and no task."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from penstock import INPUTS, flow, task
from penstock.graph.futures import Future, Source
from penstock.objects.copies import immutable
from penstock.runners import ProcessRunner, ThreadRunner


@task(cache_policy=INPUTS)
def rows(n: int) -> Any:
    return list(range(n))


@task
def size(value: Any) -> int:
    return len(value)


class _Slow:
    """Return a new value to each of two threads, once both have requested it."""

    def __init__(self) -> None:
        self.both = threading.Barrier(2)
        self.own_values: dict[int, Any] = {}

    def value(self, node: int, timeout: float | None) -> Any:
        self.both.wait(60)
        return []

    def hold(self, node: int) -> None: ...

    def let_go(self, node: int) -> None: ...

    def refuse_in_tasks(self, node: int) -> None: ...


def test_threads_that_use_one_future_get_one_object() -> None:
    future: Future[Any] = Future(0, cast(Source, _Slow()))
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(future.result())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert got[0] is got[1] is future.result()


def test_awaited_futures_have_values_of_their_own() -> None:
    @flow
    async def waits() -> Any:
        one, other = rows(2), rows(2)
        first, second = await asyncio.gather(one, other)
        first.append("spoilt")
        assert await one is one.result() is first
        assert await other is other.result() is second
        return second, rows(2)

    assert waits.run().result() == ([0, 1], [0, 1])


def test_map_uses_the_values_that_the_task_returned() -> None:
    @flow
    def maps() -> Any:
        made = rows(2)
        made.result().append("spoilt")
        return size.map([made]), rows.map(made)

    assert maps() == ([2], [[], [0]])


def test_a_future_of_another_run_is_passed_as_the_task_returned_it() -> None:
    @flow
    def outer() -> Any:
        made = rows(2)
        made.result().append("spoilt")

        @flow(runner=ThreadRunner(workers=1))
        def inner() -> Any:
            return size(made)

        return inner()

    assert outer() == 2


def test_a_plan_continues_with_the_values_of_a_run() -> None:
    @flow
    def branches() -> Any:
        made, same = rows(2), rows(2)
        made.result().append("spoilt")
        return rows(len(same))

    assert branches() == [0, 1]
    plan = branches.plan()
    assert plan.stopped_at is None
    assert len(plan.graph) == 1


def test_an_immutable_value_is_shared_by_all_futures_of_a_key() -> None:
    @task(cache_policy=INPUTS)
    def text(n: int) -> tuple[str, int]:
        return "x" * 1_000_000, n

    @flow
    def many() -> Any:
        values = text.map([1] * 10).result()
        assert all(value is values[0] for value in values)
        return len(values)

    assert [many(), many()] == [10, 10]


def test_immutable_values_are_recognised_at_any_depth() -> None:
    deep: Any = ()
    for _ in range(10_000):
        deep = (deep, deep)
    assert immutable(deep)
    assert immutable((1, ("a", frozenset([(b"", None)]))))
    assert immutable((object(), "a"))
    for mutable in ([], (1, []), {}, set(), bytearray(), (1, (2, {"a": 1})), _Slow()):
        assert not immutable(mutable)


@pytest.mark.needs("pyarrow")
def test_arrow_tables_are_immutable_and_shared() -> None:
    import pyarrow

    table = pyarrow.table({"n": [1, 2]})
    assert immutable((table, table["n"]))
    assert not immutable((table, [table]))


@pytest.mark.needs("pyarrow")
@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
def test_reading_a_dataset_through_its_future_is_not_a_change(cached: bool, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.dataset as ds
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"n": [1, 2, 3]}), tmp_path / "table.parquet")

    @task(cache_policy=INPUTS if cached else None)
    def opens(path: str) -> Any:
        return ds.dataset(path)

    @flow
    def reads() -> Any:
        table = opens(str(tmp_path / "table.parquet"))
        batches = list(table.to_batches())
        return table.count_rows(), table.to_table()["n"].to_pylist(), table.head(2).num_rows, len(batches)

    assert [reads(), reads()] == [(3, [1, 2, 3], 2, 1)] * 2


@pytest.mark.needs("numpy")
@pytest.mark.parametrize("runner", [ThreadRunner(2), ProcessRunner(2)], ids=["threads", "processes"])
def test_futures_in_an_array_of_objects_arrive_as_values(runner: Any) -> None:
    import numpy as np

    @task
    def one(value: Any) -> Any:
        return value

    @task
    def shown(cells: Any) -> str:
        return repr(cells.tolist())

    def cells(of: Any) -> Any:
        made = np.empty((2, 2), object)
        made[:] = [[of(None), of([1])], ["b", of("c")]]
        return made

    work = flow(runner=runner)(lambda: (shown(cells(one)), shown(np.array(one([2]), dtype=object)), cells(one)))
    many, single, returned = work()
    assert many == repr(returned.tolist()) == "[[None, [1]], ['b', 'c']]"
    assert single == "[2]"


@pytest.mark.needs("numpy")
@pytest.mark.parametrize("runner", [ThreadRunner(2), ProcessRunner(2)], ids=["threads", "processes"])
@pytest.mark.slow
def test_an_array_keeps_its_memory_order_as_an_argument(runner: Any) -> None:
    import numpy as np

    @task
    def in_memory(array: Any) -> list[int]:
        return array.ravel(order="K").tolist()  # type: ignore[no-any-return]

    small, large = np.asfortranarray(np.arange(6).reshape(2, 3)), np.asfortranarray(np.arange(60_000).reshape(300, 200))
    for array in (small, large, small.T):
        assert flow(runner=runner)(lambda array=array: in_memory(array))() == in_memory.fn(array)
