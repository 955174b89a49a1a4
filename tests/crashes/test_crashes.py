"""Flows whose processes are killed, stopped or interrupted keep what they published and free what they held."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.journals.journal import list_records
from penstock.locks import FileSystemLockManager
from penstock.storage import open_store
from penstock.storage.results import maintenance
from penstock.storage.results.store import ResultStore
from tests.amounts import amount

pytestmark = [pytest.mark.slow, pytest.mark.untraced]

PROGRAMS = Path(__file__).parent / "programs"
PATIENCE = 240.0
KILLS = 200 if os.environ.get("PENSTOCK_EVIDENCE") == "1" else amount(here=20, in_ci=100)


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAMS / program), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output(process: subprocess.Popen[str], seconds: float = PATIENCE) -> Any:
    """Return the program's output, parsed as JSON lines. Fail the test with the program's errors, if any."""
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    return lines[0] if len(lines) == 1 else lines


def until(seen: Callable[[], Any], what: str) -> Any:
    """Wait until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not (found := seen()):
        assert time.monotonic() < deadline, f"no {what} after {PATIENCE:g} s"
        time.sleep(0.005)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "marks").mkdir()
    yield tmp_path
    for process in descendants(tmp_path):
        process.kill()


def descendants(folder: Path) -> list[Any]:
    """Return the live processes that were started for this folder, including workers."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("CRASH_TEST") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


# -- killed at any moment ---------------------------------------------------------------------------------------------


@pytest.mark.timeout(1800)
@pytest.mark.needs("numpy", "pandas")
def test_the_run_after_a_kill_at_any_moment_reuses_what_was_published(folder: Path) -> None:
    # CI uses the same moments each time, so that a failure is caused by the change under test.
    seed = 20_261_128 if os.environ.get("CI") == "true" else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    kills = output(start("kills.py", folder, KILLS, seed), 1700)
    assert len(kills) == KILLS
    for kill in kills:
        about = f"seed {seed}: {kill}"
        assert kill.get("right"), about
        assert kill["again"] == [], about
        assert kill["broken"] == [], about
        assert kill["marks_agree"], about
        assert kill["executed_later"] == 2, about  # the one uncached task, in each of two runs
    # The moments must include the start, the middle and the end to prove anything.
    assert len({kill["published_before"] for kill in kills}) >= 5
    assert any(kill["resumed"] for kill in kills)


# -- shared keys ------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(900)
def test_eight_processes_that_share_200_keys_compute_each_once(folder: Path) -> None:
    answers = output(start("shared.py", folder, "race", 8, 200), 850)
    assert [answer.get("error") for answer in answers] == [None] * 8
    first = answers[0]["value"]["values"]
    assert len(first) == 200
    assert all(answer["value"]["values"] == first for answer in answers)
    assert sum(answer["value"]["executed"] for answer in answers) == 200
    assert len(os.listdir(folder / "marks")) == 200


def holder_of(folder: Path, *others: int) -> int:
    """Return the process that runs the held task, apart from the given ones."""

    def seen() -> set[int]:
        return {int(name.partition("@")[2]) for name in os.listdir(folder / "marks")} - set(others)

    (pid,) = until(seen, "holder")
    return int(pid)


def test_a_killed_holder_is_replaced(folder: Path) -> None:
    lease = 60.0 if sys.platform == "linux" else 2.0  # where a death is noticed at once, nobody waits for the lease
    processes = {process.pid: process for process in (start("shared.py", folder, "hold", lease) for _ in range(3))}
    victim = holder_of(folder)
    processes[victim].kill()
    heir = holder_of(folder, victim)
    (folder / f"go-{heir}").touch()
    processes.pop(victim).communicate()
    values = [output(process) for process in processes.values()]
    assert values == [heir, heir]
    assert len(os.listdir(folder / "marks")) == 2


def test_a_holder_stopped_past_its_lease_adopts_the_result_published_meanwhile(folder: Path) -> None:
    processes = {process.pid: process for process in (start("shared.py", folder, "hold", 1.0) for _ in range(2))}
    sleeper = holder_of(folder)
    os.kill(sleeper, signal.SIGSTOP)
    heir = holder_of(folder, sleeper)
    (folder / f"go-{heir}").touch()
    assert output(processes[heir]) == heir
    before = [(s.key, s.generation) for s in maintenance.ls(ResultStore(open_store(str(folder / "store"))))]
    (folder / f"go-{sleeper}").touch()
    os.kill(sleeper, signal.SIGCONT)
    assert output(processes[sleeper]) == heir
    assert output(start("shared.py", folder, "hold", 1.0)) == heir
    assert [(s.key, s.generation) for s in maintenance.ls(ResultStore(open_store(str(folder / "store"))))] == before


def test_collecting_garbage_without_grace_beside_running_flows_loses_nothing(folder: Path) -> None:
    answers = output(start("shared.py", folder, "collect", 5), 850)
    assert [answer.get("error") for answer in answers] == [None] * 3
    assert all(answer["value"] > 3 for answer in answers)
    assert maintenance.verify(ResultStore(open_store(str(folder / "store")))).problems == []


# -- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runner", ["threads", "processes"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_flow_leaves_nothing_behind_and_can_be_resumed(
    folder: Path, runner: str, how: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRASH_TEST", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    process = start("interrupted.py", folder, runner)
    until(lambda: len(list((folder / "marks").glob("slow-*"))) == 2, "slow tasks")
    os.kill(process.pid, how)
    _, err = process.communicate(timeout=PATIENCE)
    if how == signal.SIGINT:
        assert process.returncode != 0
        assert "KeyboardInterrupt" in err
    else:
        assert (process.returncode, err) == (128 + signal.SIGTERM, "")
    assert len(list((folder / "marks").glob("left-*"))) == 2, "tasks under way ran their `finally` blocks"
    assert FileSystemLockManager(folder / "locks").ls() == []
    assert until(lambda: descendants(folder) == [], "end of the workers")
    assert list(folder.glob("penstock-*")) == []
    (record,) = list_records(open_store(str(folder / "store")))
    assert record.state == "cancelled"
    (folder / "marks" / "go").touch()
    values, counts = output(start("interrupted.py", folder, runner, record.id))
    assert values == [0, 1, 2, 0, 1, 2, 3]
    assert counts["executed"] == 4  # `quick` would fail if it ran twice
    assert counts["hit"] == 3


def test_a_signal_handler_of_the_user_is_left_alone(folder: Path) -> None:
    code = """
        import os, signal, sys
        from penstock import flow, task
        told = []
        signal.signal(signal.SIGTERM, lambda *_: told.append("user's"))
        @task
        def one(): return 1
        @flow
        def signalled():
            os.kill(os.getpid(), signal.SIGTERM)
            return one()
        print(signalled(), told)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        @flow
        def plain(): return one()
        plain()
        print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    """
    program = folder / "program.py"
    program.write_text(textwrap.dedent(code))
    environment = {**os.environ, "PENSTOCK_STORE": str(folder / "store")}
    ended = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.stdout.splitlines() == ['1 ["user\'s"]', "True"], ended.stderr


@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_a_killed_flow_leaves_no_process_and_no_lock(
    folder: Path, runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRASH_TEST", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    process = start("interrupted.py", folder, runner)
    until(lambda: len(list((folder / "marks").glob("slow-*"))) == 2, "slow tasks")
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert until(lambda: descendants(folder) == [], "end of the workers")
    assert until(lambda: list(folder.glob("penstock-*")) == [], "end of the temporary files")
    (folder / "marks" / "go").touch()
    (record,) = list_records(open_store(str(folder / "store")))
    values, counts = output(start("interrupted.py", folder, runner, record.id))
    assert values == [0, 1, 2, 0, 1, 2, 3]
    assert counts["hit"] == 3
