"""A flow function that fails: what happens to its other calls, and the error for a future used as a value."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from typing import Any

import pytest

from penstock import INPUTS, flow, task
from penstock.errors import WorkerLost
from penstock.runners import ProcessRunner, ThreadRunner
from penstock.settings import load_settings

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


class Scene:
    """Three calls on two workers: one fails while another runs, and a third has not started."""

    def __init__(self) -> None:
        self.began, self.may_end = threading.Event(), threading.Event()
        scene = self

        @task
        def fails() -> None:
            assert scene.began.wait(60)
            raise ValueError("broken")

        @task(cache_policy=INPUTS, key_name="slow")
        def slow(x: int) -> int:
            RAN.append(x)
            scene.began.set()
            assert scene.may_end.wait(60)
            return x

        def body() -> Any:
            broken, first, second = fails(), slow(1), slow(2)
            try:
                broken.result()
            except ValueError:
                scene.may_end.set()
                raise
            return first, second

        async def async_body() -> Any:
            return body()

        self.flow = flow(runner=ThreadRunner(2))(body)
        self.async_flow = flow(runner=ThreadRunner(2))(async_body)
        self.again = flow(lambda: [slow(1), slow(2)])


@pytest.mark.parametrize("awaited", [False, True])
def test_running_calls_of_a_failed_flow_are_finished_and_published(awaited: bool) -> None:
    scene = Scene()
    with pytest.raises(ValueError, match="broken"):
        asyncio.run(scene.async_flow()) if awaited else scene.flow()
    finished = list(RAN)
    assert finished[0] == 1
    assert scene.again() == [1, 2]
    assert RAN == [1, 2] if len(finished) == 1 else finished


def test_a_failed_flow_continues_if_the_settings_say_so() -> None:
    scene = Scene()
    run = scene.flow.run_with({}, settings=load_settings(overrides={"on_failure": "keep_going"}))
    assert run.state == "failed"
    assert RAN == [1, 2]
    assert scene.again.plan().counts["hit"] == 2


def test_a_failed_flow_does_not_wait_forever() -> None:
    scene, never = Scene(), threading.Event()

    @task
    def waits() -> None:
        scene.began.set()
        while not never.wait(0.05):
            pass

    @task
    def fails() -> None:
        assert scene.began.wait(60)
        raise ValueError("broken")

    @flow(runner=ThreadRunner(2))
    def both() -> Any:
        waits()
        return fails().result()

    for said in ({"on_failure": "cancel"}, {"finish_seconds": 0.2}):
        run = both.run_with({}, settings=load_settings(overrides=said))
        assert (run.state, str(run.error).splitlines()[0]) == ("failed", "broken")


def note_of(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


def test_an_error_about_a_future_names_its_task() -> None:
    @task
    def load() -> dict[str, int]:
        return {"rows": 1}

    @flow
    def dumps() -> str:
        table = load()
        return json.dumps(table)

    @flow
    def dumps_several() -> str:
        tables = [load(), load()]
        return json.dumps(tables)

    @flow
    def fails_by_itself() -> None:
        load()
        raise TypeError("nothing to do with it")

    with pytest.raises(TypeError) as caught:
        dumps()
    assert "table is a Future of load" in note_of(caught.value)
    assert "table.result()" in note_of(caught.value)
    with pytest.raises(TypeError) as caught:
        dumps_several()
    assert "an item of tables is a Future of load" in note_of(caught.value)
    with pytest.raises(TypeError) as caught:
        fails_by_itself()
    assert note_of(caught.value) == ""


@pytest.mark.needs("pandas")
def test_pandas_errors_about_futures_name_their_tasks() -> None:
    import pandas

    @task
    def load(n: int) -> pandas.DataFrame:
        return pandas.DataFrame({"n": [n]})

    @flow
    def concatenated() -> Any:
        parts = [load(n) for n in range(3)]
        return pandas.concat(parts)

    with pytest.raises(TypeError) as caught:
        concatenated()
    assert "Future of load" in note_of(caught.value)


def test_an_error_that_refuses_notes_stays_unchanged() -> None:
    class Silent(TypeError):
        def add_note(self, note: str) -> None:
            raise RuntimeError("no")

    @flow
    def fails() -> None:
        value = task(max)(1, 2)
        raise Silent(f"cannot take a Future, {value!r}")

    assert type(fails.run().error) is Silent


@pytest.mark.slow
def test_a_task_that_exits_its_worker_is_not_reported_as_out_of_memory() -> None:
    @task(name="ends", key_name="ends")
    def ends() -> None:
        os._exit(3)

    @flow(runner=ProcessRunner(1))
    def work() -> Any:
        return ends()

    run = work.run()
    assert isinstance(run.error, WorkerLost)
    assert "os._exit" in run.error.hint
