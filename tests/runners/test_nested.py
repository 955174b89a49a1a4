"""Calls inside calls: what only shows with several runs, or in a separate program."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, IsolationLevel, flow, task
from penstock.locks import MemoryLockManager
from penstock.runners import ProcessRunner, ThreadRunner
from penstock.runtime import FlowRunInfo
from penstock.worker.messages import Bundle, WorkerContext

SERIALIZABLE = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)
RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@task(cache_policy=SERIALIZABLE)
def fibonacci(n: int) -> int:
    RAN.append(n)
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@flow
def several(numbers: list[int]) -> list[int]:
    return [fibonacci(n) for n in numbers]


@pytest.mark.parametrize("workers", [1, 2])
def test_runs_that_need_each_others_queued_calls_all_end(workers: int) -> None:
    bound = several.with_options(runner=ThreadRunner(workers))
    wanted = [[12, 11, 10, 3], [13, 10, 5], [9, 13, 4], [14, 8, 12]]
    values: dict[int, list[int]] = {}
    threads = [
        threading.Thread(target=lambda n=n, numbers=numbers: values.update({n: bound(numbers)}), daemon=True)
        for n, numbers in enumerate(wanted)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert values == {0: [144, 89, 55, 2], 1: [233, 55, 5], 2: [34, 233, 3], 3: [377, 21, 144]}


def test_a_run_that_waits_for_a_nested_result_continues_when_it_is_published() -> None:
    locks = MemoryLockManager()
    policy = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=locks)
    asked, may_end = threading.Event(), threading.Event()

    @task(cache_policy=policy, key_name="inner")
    def inner(x: int) -> int:
        RAN.append(x)
        return x + 1

    @task
    def outer(x: int) -> int:
        value = inner(x)
        asked.set()
        assert may_end.wait(60)
        return value

    @flow(runner=ThreadRunner(1))
    def first() -> Any:
        return outer(1), inner(1)  # the lock of inner(1) is held as long as outer runs

    running = threading.Thread(target=first, daemon=True)
    running.start()
    assert asked.wait(60)
    other = flow(runner=ThreadRunner(1))(lambda: inner(1))
    assert other() == 2
    may_end.set()
    running.join(60)
    assert RAN == [1]


def test_a_lent_worker_comes_back() -> None:
    locks = MemoryLockManager()
    policy = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=locks)
    began, may_end = threading.Event(), threading.Event()
    at_once: list[int] = []
    running = 0
    guard = threading.Lock()

    @task(cache_policy=policy, key_name="slow")
    def slow(x: int) -> int:
        began.set()
        assert may_end.wait(60)
        return x

    @task
    def outer(x: int) -> int:
        return slow(x)

    @task
    def ends(x: int) -> int:
        may_end.set()
        return x

    @task
    def counts(x: int) -> int:
        nonlocal running
        with guard:
            running += 1
            at_once.append(running)
        RAN.append(x)
        with guard:
            running -= 1
        return x

    holder = threading.Thread(target=flow(runner=ThreadRunner(1))(lambda: slow(1)), daemon=True)
    holder.start()
    assert began.wait(60)

    @flow(runner=ThreadRunner(1))
    def waits() -> Any:
        first, second = outer(1), ends(2)  # there is one worker, and the first call waits for the other run
        return first.result(), second, [counts(x) for x in range(20)]

    assert waits() == (1, 2, list(range(20)))
    assert max(at_once) == 1
    holder.join(60)


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_a_program_can_call_its_tasks_inside_tasks(runner: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            from penstock import INPUTS, TASK_CODE, TASK_SOURCE, IsolationLevel, flow, task

            once = (INPUTS + TASK_SOURCE).configure(isolation_level=IsolationLevel.SERIALIZABLE)
            FACTOR = 10

            def scale(x): return x * FACTOR

            @task(cache_policy=INPUTS + TASK_CODE)
            def inner(x, more=1): print("inner", file=sys.stderr); return scale(x) + more

            @task(cache_policy=once)
            def fib(n, base=2): return n if n < base else fib(n - 1) + fib(n - 2)

            @flow
            def both(x): return inner(x), fib(x)

            @task
            def outer(x): return sum(both(x)) + inner(x) + fib(6)

            @flow(runner=sys.argv[1])
            def main(): return [outer(x) for x in range(3)] + [fib(7), inner(1)]

            if __name__ == "__main__":
                print([int(x) for x in main()])
            """
        )
    )
    environment = {**os.environ, "PENSTOCK_STORE": str(tmp_path / "store")}
    for times in (3, 0):
        done = subprocess.run(
            [sys.executable, str(script), runner], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.stdout == "[10, 31, 51, 13, 11]\n", done.stderr
        assert done.stderr.count("inner") >= times  # threads write their ends of lines separately
        assert times or "inner" not in done.stderr


def test_closing_waits_for_a_worker_process_that_is_no_longer_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lent worker came back after its place had been filled, so one worker leaves as the run ends."""
    leaving, go_on = threading.Event(), threading.Event()
    steps: list[str] = []
    engine: Any = ProcessRunner(1).open(WorkerContext(FlowRunInfo(), str(tmp_path)), lambda _: None)
    before = engine._dismiss

    def run(*_: Any) -> list[Any]:
        engine._limit = 0  # the waiting call is back
        return []

    def dismiss(seat: Any) -> str:
        leaving.set()
        assert go_on.wait(60)
        steps.append("gone")
        return str(before(seat))

    monkeypatch.setattr(engine, "_run", run)
    monkeypatch.setattr(engine, "_dismiss", dismiss)
    engine.submit(Bundle(1, []))
    assert leaving.wait(60)
    closing = threading.Thread(target=lambda: (engine.close(), steps.append("closed")))
    closing.start()
    closing.join(0.2)  # long enough for a worker that does not wait
    go_on.set()
    closing.join(60)
    assert steps == ["gone", "closed"]
