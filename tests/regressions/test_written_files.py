"""Files that a flow writes before a call reads them count as the call finds them, also for hits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from penstock import INPUTS, Files, flow, task
from penstock.errors import DigestError, ParameterError

Note = Callable[[object], None]
Ran = Callable[[], list[str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file in a folder of its own."""
    (tmp_path / "data").mkdir()
    data = tmp_path / "data" / "data.txt"
    data.write_text("first")
    return data


@pytest.fixture(params=["pattern", "wildcard", "parameter"])
def read(request: pytest.FixtureRequest, data: Path, note: Note) -> Any:
    """A cached task that reads a file."""
    files = {
        "pattern": Files(str(data)),
        "wildcard": Files(str(data.with_name("*.txt"))),
        "parameter": Files(parameter="path"),
    }[request.param]

    @task(cache_policy=INPUTS + files)
    def read(path: str, after: object = None) -> str:
        note(Path(path).read_text())
        return Path(path).read_text()

    return read.with_options(name="read")


def test_a_call_that_waits_for_the_writer_of_its_file_is_no_hit_for_earlier_content(
    read: Any, data: Path, runner: str, ran: Ran
) -> None:
    path = str(data)

    @task
    def write(text: str) -> None:
        Path(path).write_text(text)

    @flow
    def pipeline(text: str) -> str:
        return read.submit(path, wait_for=[write(text)]).result()

    assert [pipeline(text) for text in ("first", "second", "first", "second")] == ["first", "second"] * 2
    assert sorted(ran()) == ["first", "second"]


@task
def writes(path: str) -> str:
    Path(path).write_text("written")
    return path


@task(cache_policy=INPUTS + Files(parameter="path"))
def reads(path: str) -> str:
    return Path(path).read_text()


@pytest.mark.parametrize("how", ["waits", "uses"])
def test_a_file_that_a_call_waits_for_need_not_exist_when_it_is_called(how: str, tmp_path: Path) -> None:
    path = str(tmp_path / "new.txt")
    calls = {"waits": lambda: reads(path, wait_for=[writes(path)]), "uses": lambda: reads(writes(path))}  # type: ignore[call-arg]
    assert flow(calls[how])() == "written"


def test_an_error_for_a_missing_file_of_an_argument_names_the_task_and_what_makes_it_wait(tmp_path: Path) -> None:
    path = str(tmp_path / "new.txt")
    with pytest.raises(ParameterError) as raised:
        flow(lambda: [writes(path), reads(path)])()
    assert raised.value.where.endswith("reads, arguments['path']")
    assert "wait_for=[future of that task]" in raised.value.hint


def test_an_error_for_a_missing_file_of_a_pattern_names_the_task(tmp_path: Path) -> None:
    missing = task(cache_policy=Files(str(tmp_path / "none.txt")), key_name="unread")(lambda: None)
    with pytest.raises(ParameterError) as raised:
        flow(lambda: missing())()
    assert raised.value.where == "task unread"
    assert "wait_for" not in raised.value.hint  # such files are read when the task is first called


def test_what_a_call_waits_for_counts_for_calls_that_use_its_value(read: Any, data: Path, ran: Ran) -> None:
    path = str(data)

    @task
    def write(text: str) -> None:
        Path(path).write_text(text)

    @task(cache_policy=INPUTS)
    def ready() -> bool:
        return True

    @flow
    def pipeline(text: str) -> str:
        return read(path, ready.submit(wait_for=[write(text)])).result()

    assert [pipeline(text) for text in ("first", "second", "first", "second")] == ["first", "second"] * 2


def test_a_writer_whose_value_is_used_writes_before_the_file_is_read(read: Any, data: Path, ran: Ran) -> None:
    path = str(data)

    @task
    def write(text: str) -> None:
        Path(path).write_text(text)

    @task(cache_policy=INPUTS)
    def checked(done: None) -> bool:
        return True

    @flow
    def pipeline(text: str) -> str:
        return read(path, checked(write(text))).result()

    assert [pipeline(text) for text in ("first", "second", "first", "second")] == ["first", "second"] * 2
    assert sorted(ran()) == ["first", "second"]


def test_a_cached_writer_that_runs_again_writes_before_the_file_is_read(read: Any, data: Path) -> None:
    path, source = str(data), data.with_suffix(".source")

    @task(cache_policy=INPUTS + Files(str(source)))
    def write() -> None:
        Path(path).write_text(source.read_text())

    @flow
    def pipeline() -> str:
        return read(path, write()).result()

    found = []
    for text in ("first", "second", "third"):
        source.write_text(text)
        found.append(pipeline())
    assert found == ["first", "second", "third"]


def test_a_plan_says_that_files_are_read_later(read: Any, data: Path) -> None:
    path = str(data)

    @task
    def write() -> None:
        Path(path).write_text("first")

    @flow
    def pipeline() -> str:
        return read.submit(path, wait_for=[write()]).result()

    pipeline()
    assert "its files are read after the calls that it waits for" in str(pipeline.plan())


def test_a_call_after_which_nothing_runs_is_still_a_hit(read: Any, data: Path, ran: Ran) -> None:
    path = str(data)

    @task(cache_policy=INPUTS)
    def checked() -> bool:
        return True

    @flow
    def pipeline() -> str:
        return read(path, checked()).result()

    assert [pipeline(), pipeline()] == ["first", "first"]
    assert ran() == ["first"]


@pytest.mark.parametrize("by_parameter", [False, True])
def test_a_stream_is_not_published_if_its_file_changes_while_it_is_read(
    by_parameter: bool, data: Path, ran: Ran
) -> None:
    path = str(data)
    changing = [True]

    @task(cache_policy=INPUTS + (Files(parameter="path") if by_parameter else Files(path)))
    def lines(path: str) -> Iterator[pa.Table]:
        yield pa.table({"line": [Path(path).read_text()]})
        if changing.pop():
            Path(path).write_text("second")
        yield pa.table({"line": [Path(path).read_text()]})

    with pytest.raises(DigestError, match="changed, appeared or vanished while the stream"):
        lines(path)
    data.write_text("first")
    changing.append(False)
    assert lines(path).to_pydict() == {"line": ["first", "first"]}


def test_a_call_waits_for_no_call_whose_value_nobody_needs(read: Any, data: Path, ran: Ran) -> None:
    path = str(data)

    @task(cache_policy=INPUTS)
    def first() -> int:
        return 1

    @task(cache_policy=INPUTS)
    def second(n: int, after: object = None) -> int:
        return n + 1

    @flow
    def pipeline() -> str:
        above = first()
        ready = second.submit(second(above), wait_for=[above])
        return read(path, ready).result()

    assert [pipeline() for _ in range(3)] == ["first"] * 3
    assert ran() == ["first"]


def test_a_recipe_of_earlier_content_leads_to_no_value_of_other_content(data: Path) -> None:
    path, source = str(data), data.with_suffix(".source")

    @task(cache_policy=INPUTS)
    def download() -> None:
        Path(path).write_text(source.read_text())

    @task(cache_policy=INPUTS + Files(path))
    def read(done: None) -> str:
        return Path(path).read_text()

    @task(cache_policy=INPUTS)
    def below(text: str) -> str:
        return f"of {text}"

    @flow
    def pipeline(refresh: bool) -> list[str]:
        text = read(download.with_options(refresh_cache=refresh)())
        return [text, below(text)]

    data.write_text("first")
    source.write_text("second")
    assert pipeline(False) == ["second", "of second"]
    source.write_text("first")
    assert pipeline(True) == ["first", "of first"]
    assert pipeline(False) == ["first", "of first"]


def test_a_file_that_the_flow_changes_after_the_call_leaves_no_recipe(data: Path) -> None:
    path = str(data)

    @task(cache_policy=INPUTS)
    def one(n: int) -> int:
        return n

    @task(cache_policy=INPUTS + Files(path))
    def read(n: int) -> str:
        return Path(path).read_text()

    @task(cache_policy=INPUTS)
    def below(text: str) -> str:
        return f"of {text}"

    @flow
    def changing() -> list[str]:
        text = read(one(1))
        data.write_text("second")
        return [text, below(text)]

    @flow
    def leaf() -> list[str]:
        text = read(2)
        data.write_text("second")
        return [text, below(text)]

    for each in (changing, leaf):
        for _ in range(3):
            data.write_text("first")
            assert each() == ["second", "of second"]
    data.write_text("first")

    @flow
    def quiet(n: int) -> list[str]:
        text = read(one(n) if n == 1 else n)
        return [text, below(text)]

    assert [quiet(1), quiet(2)] == [["first", "of first"]] * 2
