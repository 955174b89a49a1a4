"""Single flight by default: which tasks are computed once without being asked to, and what happens where that is
impossible.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, RUN_ID, CachePolicy, Run, flow, load_settings, task
from penstock.environments import Environment
from penstock.errors import LockError, PenstockError
from penstock.locks import FileSystemLockManager, MemoryLockManager
from penstock.runners import ThreadRunner
from penstock.settings import Settings
from penstock.storage import MemoryStore
from penstock.storage.stores.base import Conditions

ONCE = INPUTS.configure(isolation_level="SERIALIZABLE")
EACH = INPUTS.configure(isolation_level="READ_COMMITTED")


def settings_for(folder: Path, **more: Any) -> Settings:
    return load_settings(overrides={"store": str(folder / "store"), **more})


class Together:
    """Two concurrent runs that need one key; the one that computes it waits until the other has got that far."""

    def __init__(self, policy: CachePolicy, settings: Settings) -> None:
        self.ran = 0
        self.settings = settings
        self._tally = threading.Lock()
        self._second = threading.Event()

        @task(cache_policy=policy, key_name="together")
        def work(x: int) -> int:
            with self._tally:
                self.ran += 1
                if self.ran == 2:
                    self._second.set()
            self._second.wait(self._patience)
            return x

        @flow(runner=ThreadRunner(1))
        def one() -> int:
            return work(1)  # type: ignore[return-value]

        self._flow = one
        self._patience = 30.0

    def run(self) -> list[Run[int]]:
        """Return both runs once they have ended."""
        runs: list[Run[int]] = []

        def heard(event: Any) -> None:
            if type(event).__name__ == "NodeParked":
                self._second.set()

        def one() -> None:
            runs.append(self._flow.run_with({}, settings=self.settings, subscribers=[heard]))

        threads = [threading.Thread(target=one) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [run.result() for run in runs] == [1, 1]
        return runs


def test_a_shared_key_is_computed_once_by_default(tmp_path: Path) -> None:
    together = Together(INPUTS, settings_for(tmp_path))
    together.run()
    assert together.ran == 1
    assert [path.name for path in (tmp_path / "store" / "locks").rglob("*")] == ["claims"]


def test_a_shared_key_in_memory_is_computed_once_by_default() -> None:
    together = Together(INPUTS, load_settings(overrides={"store": "memory://together-once"}))
    together.run()
    assert together.ran == 1


@pytest.mark.parametrize(
    ("policy", "said"), [(EACH, {}), (INPUTS, {"isolation": "read_committed"}), (INPUTS + RUN_ID, {})]
)
def test_tasks_that_opt_out_take_no_lock(policy: CachePolicy, said: dict[str, str], tmp_path: Path) -> None:
    together = Together(policy, settings_for(tmp_path, **said))
    together.run()
    assert together.ran == 2
    assert not (tmp_path / "store" / "locks").exists()


def test_the_setting_does_not_change_a_serializable_policy(tmp_path: Path) -> None:
    together = Together(ONCE, settings_for(tmp_path, isolation="read_committed"))
    together.run()
    assert together.ran == 1


def test_a_warm_run_takes_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @task(cache_policy=INPUTS, key_name="warm")
    def work(x: int) -> int:
        return x

    @flow(runner=ThreadRunner(1))
    def many() -> list[int]:
        return work.map(range(10))  # type: ignore[return-value]

    settings = settings_for(tmp_path)
    many.run_with({}, settings=settings).result()

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a warm run opened a session")

    monkeypatch.setattr(FileSystemLockManager, "open_session", refuse)
    assert many.run_with({}, settings=settings).counts["hit"] == 10


def test_results_of_a_storage_are_locked_beside_it(tmp_path: Path) -> None:
    """Two runs have separate stores, but one task stores its results in a shared place."""
    shared = str(tmp_path / "shared")
    one, two = (Environment(settings_for(tmp_path / name)) for name in ("one", "two"))
    managers = [environment.flight(INPUTS, shared).manager for environment in (one, two)]
    folders = {manager.lock_files_directory for manager in managers if isinstance(manager, FileSystemLockManager)}
    assert folders == {f"{shared}/locks"}


def simple(policy: CachePolicy = INPUTS, **options: Any) -> Any:
    @task(cache_policy=policy, key_name="simple", **options)
    def work(x: int) -> int:
        return x

    @flow(runner=ThreadRunner(1))
    def some() -> list[int]:
        return work.map(range(3))  # type: ignore[return-value]

    return some


def test_unavailable_default_locks_fail_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "no folder").write_text("")
    settings = settings_for(tmp_path, locks=str(tmp_path / "no folder"))
    with caplog.at_level(logging.WARNING, "penstock.locks"):
        assert simple().run_with({}, settings=settings).result() == [0, 1, 2]
    assert len(caplog.records) == 1
    with pytest.raises(LockError):
        simple(ONCE).run_with({}, settings=settings.with_values(store=str(tmp_path / "other"))).result()


@pytest.mark.needs("redis")
def test_an_unreachable_default_redis_fails_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_for(tmp_path, locks="redis://127.0.0.1:1?timeout=0.5")
    with caplog.at_level(logging.WARNING, "penstock.locks"):
        run = simple().run_with({}, settings=settings)
    assert run.result() == [0, 1, 2]
    assert len(caplog.records) == 1


class Weak(MemoryStore):
    """A store that lets an existing name be created again."""

    def conditions(self, *, afresh: bool = False) -> Conditions:
        return Conditions("ignored")

    def local_path(self, name: str) -> str | None:
        return None


def test_a_store_that_cannot_lock_fails_no_run_by_default(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_for(tmp_path, locks="memory")
    with caplog.at_level(logging.WARNING, "penstock.locks"):
        assert simple(result_storage=Weak()).run_with({}, settings=settings).result() == [0, 1, 2]
    assert ["work may be computed more than once" in record.getMessage() for record in caplog.records] == [True]
    with pytest.raises(PenstockError):
        simple(ONCE, result_storage=Weak()).run_with({}, settings=settings).result()


def test_a_remote_store_locks_only_tasks_known_to_be_long(tmp_path: Path) -> None:
    environment = Environment(settings_for(tmp_path))
    flight = environment.flight(INPUTS, Far())
    assert flight.manager is not None
    assert flight.after_seconds > 0
    assert "known to take" in flight.why
    assert not environment.flight(ONCE, Far()).after_seconds


class Far:
    """The part of a bucket that is looked at."""

    url = "s3://bucket/results"
    trusted = False

    def conditions(self, *, afresh: bool = False) -> Conditions:
        return Conditions("enforced")

    def local_path(self, name: str) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: None


def test_a_call_inside_a_task_waits_for_no_default_lock(tmp_path: Path) -> None:
    """It could wait for a call that waits for its caller's slot."""

    @task(cache_policy=INPUTS, key_name="inner")
    def inner(x: int) -> int:
        return x

    @task(cache_policy=INPUTS, key_name="outer")
    def outer(x: int) -> int:
        return inner(x)

    @flow(runner=ThreadRunner(1))
    def both() -> list[int]:
        return [outer(1), inner(1)]

    assert both.run_with({}, settings=settings_for(tmp_path)).result() == [1, 1]


def test_the_lease_of_the_settings_applies_to_managers_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases: list[float] = []
    for kind in (FileSystemLockManager, MemoryLockManager):
        opened = kind.open_session

        def noting(self: Any, *, opened: Any = opened, **options: Any) -> Any:
            leases.append(options.get("lease_seconds") or self.lease_seconds)
            return opened(self, **options)

        monkeypatch.setattr(kind, "open_session", noting)
    settings = settings_for(tmp_path, lease_seconds=7)
    for manager in (
        MemoryLockManager(),
        MemoryLockManager(lease_seconds=3),
        FileSystemLockManager(tmp_path / "a"),
        FileSystemLockManager(tmp_path / "b", lease_seconds=4),
    ):
        policy = INPUTS.configure(lock_manager=manager, isolation_level="SERIALIZABLE")
        simple(policy).run_with({}, settings=settings.with_values(store=f"memory://{os.urandom(8).hex()}")).result()
    assert leases == [7, 3, 7, 4]


@pytest.mark.slow
def test_three_concurrent_programs_compute_each_key_once(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent("""
            import os, time
            from penstock import INPUTS, TASK_CODE, flow, task

            @task(cache_policy=INPUTS + TASK_CODE)
            def features(day):
                with open("calls", "a") as file:
                    file.write("x")
                time.sleep(0.5)
                return {"day": day}

            @flow
            def weekly():
                return [features(str(day)) for day in range(3)]

            if __name__ == "__main__":
                weekly()
        """)
    )
    environment = {**os.environ, "PENSTOCK_STORE": str(tmp_path / "store"), "PENSTOCK_HOME": str(tmp_path / "home")}
    programs = [subprocess.Popen([sys.executable, script], cwd=tmp_path, env=environment) for _ in range(3)]
    assert [program.wait(100) for program in programs] == [0, 0, 0]
    assert (tmp_path / "calls").read_text() == "xxx"
    assert not [path for path in (tmp_path / "store" / "locks").rglob("*") if path.is_file()]
