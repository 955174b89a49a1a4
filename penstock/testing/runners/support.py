"""What the tests of runners stand on."""

from __future__ import annotations

import functools
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from penstock import events
from penstock.driver.loop import Driver
from penstock.flows.decorator import flow
from penstock.flows.definition import Flow
from penstock.runners.base import Runner
from penstock.runs import Run
from penstock.settings import Settings, load_settings
from penstock.testing.leaks import left_over

PATIENCE = 240.0
"""Seconds a run may take before the test fails as hanging; never waited for when all is well."""


class RunnerBench:
    """What the parts of the suite share: a runner and a store of their own, and runs that cannot hang."""

    kills_workers: ClassVar[bool] = False
    """Whether workers are processes whose death is noticed."""
    keeps_processes: ClassVar[bool] = False
    """Whether the engine outlives runs, so that its processes and threads may stay."""

    lends_workers: ClassVar[bool] = False
    """Whether a worker runs something else while a run inside of its call waits."""

    def make_runner(self, workers: int) -> Runner:
        """A runner for this many calls at a time (or as many as it has, if that cannot be chosen)."""
        raise NotImplementedError

    def make_store(self, folder: Path) -> str:
        """The address of an empty store that the workers reach."""
        return str(folder / "store")

    # -- the test's own tools

    @pytest.fixture(autouse=True)
    def _tools(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setenv("TMPDIR", str(scratch))
        monkeypatch.setattr(tempfile, "tempdir", str(scratch))
        self.log = str(tmp_path / "log")
        os.mkdir(self.log)
        self.settings: Settings = load_settings(overrides={"store": self.make_store(tmp_path)})
        self.seen: list[events.Event] = []
        self._watch_drivers(monkeypatch)
        before = set(threading.enumerate())
        yield
        assert self.left == []
        if not self.keeps_processes:
            started = [thread for thread in threading.enumerate() if thread not in before]
            ours = [thread for thread in started if thread.name.startswith("penstock-")]
            for thread in ours:
                thread.join(PATIENCE)  # one that was interrupted ends at its next line of Python
            assert [thread.name for thread in ours if thread.is_alive()] == []
            assert list(scratch.iterdir()) == []

    def _watch_drivers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """See what the driver of each run leaves when it is closed."""
        self.left: list[dict[str, Any]] = []
        close = Driver.close

        def closed(driver: Driver) -> None:
            close(driver)
            if driver.crash is None and (left := left_over(driver)):
                self.left.append(left)

        monkeypatch.setattr(Driver, "close", closed)

    def run(self, fn: Callable[..., Any], *args: Any, workers: int = 2, **options: Any) -> Run[Any]:
        """The run of `fn` as a flow, over; fails the test if it hangs."""
        bound: Flow[Any, Any] = flow(runner=self.make_runner(workers), **options)(fn)
        run: Run[Any] = self.within(functools.partial(self._run, bound, args))
        return run

    def _run(self, bound: Flow[Any, Any], args: tuple[Any, ...]) -> Run[Any]:
        parameters = bound.signature.bind(bound.name, args, {})
        return bound.run_with(parameters, settings=self.settings, subscribers=[self.seen.append])

    def within(self, call: Callable[[], Any]) -> Any:
        """What `call` returns or raises, in a thread that may hang without taking the tests along."""
        ended: list[tuple[Any, BaseException | None]] = []

        def body() -> None:
            try:
                ended.append((call(), None))
            except BaseException as error:  # noqa: BLE001 (handed over to the test)
                ended.append((None, error))

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if not ended:
            pytest.fail(f"hangs: not over after {PATIENCE:g} s")
        value, error = ended[0]
        if error is not None:
            raise error
        return value

    def value(self, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What the flow returns; raises what it raises."""
        return self.run(fn, *args, **options).result()

    def executions(self) -> dict[str, int]:
        """How often each task ran so far, by the name it was marked with."""
        return dict(Counter(name.rpartition("@")[0] for name in os.listdir(self.log)))

    def finished(self) -> dict[str, list[str]]:
        """By task, how its nodes got their values."""
        found: dict[str, list[str]] = {}
        for event in self.seen:
            if isinstance(event, events.NodeFinished):
                found.setdefault(event.task, []).append(event.how)
        return found

    def damage_payloads(self) -> None:
        """Remove the bytes of every stored value, past the store. Override it together with `make_store`."""
        for payload in Path(self.settings.store).glob("results/*/*/*"):
            if not payload.name.endswith(".record.json"):
                payload.unlink()
