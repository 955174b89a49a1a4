"""The log and the record of a run: they never delay its results, and stay as small as they can be."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, Run, environments, flow, load_settings, task
from penstock.errors import ParameterError, StoreError, StoreFull, StoreNotWritable, StoreUnreachable
from penstock.events import Event, LogLost, RunFinished
from penstock.journals.journal import END_SECONDS, read_events, read_record
from penstock.journals.parameters import BESIDE_BYTES, MOST_BYTES, pickle_parameters
from penstock.journals.writers import QUEUED_BYTES, JournalWriter
from penstock.storage import open_store
from penstock.storage.stores.memory import MemoryStore
from penstock.testing.stores.faults import FlakyStore

_names = itertools.count()


@task(cache_policy=INPUTS)
def double(n: int) -> int:
    return 2 * n


@flow
def doubled(n: int) -> Any:
    return double(n)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> FlakyStore:
    """The store of all runs in the test."""
    store = FlakyStore(MemoryStore.named(f"journals-{next(_names)}"))
    monkeypatch.setattr(environments, "open_store", lambda address: store)
    return store


def run(store: Path | None, fn: Any = doubled, n: Any = 4) -> tuple[Run[Any], list[Event]]:
    seen: list[Event] = []
    settings = load_settings(overrides={"store": "memory:" if store is None else str(store)})
    return fn.run_with({"n": n}, settings=settings, subscribers=[seen.append]), seen


# -- what the store does not accept -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["put", "create"])
@pytest.mark.parametrize("error", [StoreFull("no space left"), StoreNotWritable("read-only"), StoreUnreachable("gone")])
def test_a_store_that_accepts_no_log_still_returns_the_value(flaky: FlakyStore, method: str, error: StoreError) -> None:
    flaky.fail(method, error, name="runs/", times=1000)
    done, seen = run(None)
    assert done.result() == 8
    assert done.state == "completed"
    assert [event.reason for event in seen if isinstance(event, LogLost)] == [f"{error.what} (in {flaky.url})"]


def test_a_read_only_store_still_has_hits(flaky: FlakyStore) -> None:
    run(None)
    for method in ("put", "put_if_absent", "append", "create"):
        flaky.fail(method, StoreNotWritable("read-only"), times=1000)
    done, seen = run(None)
    assert (done.result(), done.counts["hit"], done.state) == (8, 1, "completed")
    assert sum(isinstance(event, LogLost) for event in seen) == 1


def test_resuming_a_run_whose_parameters_were_not_written_says_so(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    (tmp_path / "parameters").write_text("in the way")
    done, _ = run(tmp_path, n=b"x" * (BESIDE_BYTES + 1))
    record = read_record(store, done.id)
    assert not record.resumable
    with pytest.raises(ParameterError, match="cannot be resumed") as caught:
        doubled.resume(done.id, settings=load_settings(overrides={"store": str(tmp_path)}))
    assert "could not be written" in caught.value.because


# -- the writer -------------------------------------------------------------------------------------------------------


class Sink:
    """A destination for lines that can be closed."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.open = threading.Event()
        self.entered = threading.Event()
        self.troubles: list[str] = []

    def __call__(self, lines: bytes) -> None:
        self.entered.set()
        assert self.open.wait(60)
        self.lines += lines.splitlines()

    def writer(self, seconds: float = 1000.0) -> JournalWriter:
        return JournalWriter(self, seconds=seconds, on_trouble=self.troubles.append)


def test_adding_a_line_never_waits_for_the_store() -> None:
    sink = Sink()
    writer = sink.writer(seconds=0.0)
    writer.add(b"first\n")
    assert sink.entered.wait(60)
    for n in range(1000):
        writer.add(b"%d\n" % n)
    assert sink.lines == []
    sink.open.set()
    assert writer.close(60)
    assert sink.lines == [b"first", *(b"%d" % n for n in range(1000))]


def test_the_queue_is_bounded_and_its_loss_is_reported_once() -> None:
    sink = Sink()
    writer = sink.writer()
    line = b"x" * (QUEUED_BYTES // 10 - 1) + b"\n"
    for _ in range(25):
        writer.add(line)
    sink.open.set()
    assert writer.close(60)
    assert len(sink.lines) == 10
    assert sink.troubles == ["15 events were lost because the store was too slow"]


def test_lines_and_jobs_keep_their_order() -> None:
    sink, order = Sink(), []
    sink.open.set()
    writer = sink.writer()
    writer.add(b"a\n")
    writer.do(lambda: order.append(list(sink.lines)))
    writer.add(b"b\n")
    assert writer.close(60)
    assert (order, sink.lines) == ([[b"a"]], [b"a", b"b"])


def test_a_line_is_written_in_time_even_if_no_other_follows() -> None:
    sink = Sink()
    sink.open.set()
    writer = sink.writer(seconds=0.01)
    writer.add(b"a\n")
    assert sink.entered.wait(60)
    assert writer.close(60)


def test_a_writer_that_hangs_is_abandoned() -> None:
    sink = Sink()
    writer = sink.writer(seconds=0.0)
    writer.add(b"a\n")
    assert sink.entered.wait(60)
    assert not writer.close(0.01)
    sink.open.set()
    assert writer.close(60)
    assert END_SECONDS > 0


def test_the_log_of_a_run_ends_with_its_end(tmp_path: Path) -> None:
    done, seen = run(tmp_path)
    written = list(read_events(open_store(str(tmp_path)), done.id))
    assert written == seen
    assert isinstance(written[-1], RunFinished)


# -- parameters -------------------------------------------------------------------------------------------------------


@task
def length(data: bytes) -> int:
    return len(data)


@flow
def measured(n: bytes) -> Any:
    return length(n)


def sizes(folder: Path, pattern: str) -> list[int]:
    return [path.stat().st_size for path in folder.glob(pattern)]


def test_runs_with_the_same_large_parameters_store_them_once(tmp_path: Path) -> None:
    data = b"x" * 3_000_000
    runs = [run(tmp_path, measured, data)[0] for _ in range(4)]
    assert sum(sizes(tmp_path, "runs/**/*.*")) < 100_000
    assert len(sizes(tmp_path, "parameters/*")) == 1
    again = measured.resume(runs[2].id, settings=load_settings(overrides={"store": str(tmp_path)}))
    assert again.result() == 3_000_000


def test_small_parameters_are_stored_in_the_record_of_their_run(tmp_path: Path) -> None:
    done, _ = run(tmp_path, measured, b"x")
    assert len(sizes(tmp_path, f"runs/{done.id}/parameters.pkl")) == 1
    assert not (tmp_path / "parameters").exists()


@pytest.mark.parametrize(
    ("make", "because"),
    [
        pytest.param(lambda: bytes(MOST_BYTES), "and the limit is", id="large"),
        pytest.param(threading.Lock, "could not be pickled", id="not picklable"),
    ],
)
def test_resume_reports_parameters_that_were_not_stored(tmp_path: Path, make: Callable[[], Any], because: str) -> None:
    @flow
    def empty(n: Any) -> int:
        return 1

    done, _ = run(tmp_path, empty, make())
    assert sum(sizes(tmp_path, "**/*.*")) < 100_000
    with pytest.raises(ParameterError) as caught:
        empty.resume(done.id, settings=load_settings(overrides={"store": str(tmp_path)}))
    assert because in caught.value.because


def test_parameters_always_have_the_same_pickle() -> None:
    assert pickle_parameters({"a": [1, "x"]}) == pickle_parameters({"a": [1, "x"]})
