"""The hooks and tools of the suite for runners."""

from __future__ import annotations

import functools
import os
import tempfile
import threading
from abc import abstractmethod
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
from penstock.testing.suites import Suite

PATIENCE = 240.0
"""How long a run may take before the test fails, in seconds."""


class RunnerBench(Suite):
    """The attributes and methods that subclasses of the suite override, and the tools of its tests."""

    kills_workers: ClassVar[bool] = False
    """Whether workers are processes whose death is noticed."""
    keeps_processes: ClassVar[bool] = False
    """Whether the engine outlives runs, so that its processes and threads may stay."""

    lends_workers: ClassVar[bool] = False
    """Whether a worker does other work while a nested run on it waits."""

    @abstractmethod
    def make_runner(self, workers: int) -> Runner:
        """Return a runner for a number of concurrent calls, or its own number if that is fixed."""

    def make_store(self, folder: Path) -> str:
        """Return the address of an empty store that the workers can reach."""
        return str(folder / "store")

    # -- tools

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
                thread.join(PATIENCE)  # an interrupted thread ends at its next line of Python
            assert [thread.name for thread in ours if thread.is_alive()] == []
            assert list(scratch.iterdir()) == []

    def _watch_drivers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Check each driver for leftovers when it is closed."""
        self.left: list[dict[str, Any]] = []
        close = Driver.close

        def closed(driver: Driver) -> None:
            close(driver)
            if driver.crash is None and (left := left_over(driver)):
                self.left.append(left)

        monkeypatch.setattr(Driver, "close", closed)

    def run(self, fn: Callable[..., Any], *args: Any, workers: int = 2, **options: Any) -> Run[Any]:
        """Run `fn` as a flow, and return the finished run. Fails the test if it hangs."""
        bound: Flow[Any, Any] = flow(runner=self.make_runner(workers), **options)(fn)
        run: Run[Any] = self.within(functools.partial(self._run, bound, args))
        return run

    def _run(self, bound: Flow[Any, Any], args: tuple[Any, ...]) -> Run[Any]:
        parameters = bound.binding.bind(bound, args, {})
        return bound.run_with(parameters, settings=self.settings, subscribers=[self.seen.append])

    def within(self, call: Callable[[], Any]) -> Any:
        """Return or raise what `call` does, running it in a thread so that the tests do not hang with it."""
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
            pytest.fail(f"not finished after {PATIENCE:g} s")
        value, error = ended[0]
        if error is not None:
            raise error
        return value

    def value(self, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Return or raise what the flow does."""
        return self.run(fn, *args, **options).result()

    def executions(self) -> dict[str, int]:
        """Return how many times each task ran so far, by the name of its mark."""
        return dict(Counter(name.rpartition("@")[0] for name in os.listdir(self.log)))

    def finished(self) -> dict[str, list[str]]:
        """Return how the nodes of each task got their values."""
        found: dict[str, list[str]] = {}
        for event in self.seen:
            if isinstance(event, events.NodeFinished):
                found.setdefault(event.task, []).append(event.how)
        return found

    def damage_payloads(self) -> None:
        """Remove the bytes of every stored value, bypassing the store. Override this together with `make_store`."""
        for payload in Path(self.settings.store).glob("results/*/*/*"):
            if not payload.name.endswith(".record.json"):
                payload.unlink()
