"""Heartbeats, bells and process identities, each tested alone."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from penstock.errors import ConfigurationError, LockError
from penstock.locks.sessions import Bell, Heartbeat, checked_lease
from penstock.process import identity
from penstock.process.identity import ProcessIdentity
from penstock.testing.clocks import FakeClock

LEASE = 30.0


class Beats:
    """A scripted `beat` that counts its calls."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.count = 0
        self.accepted = True
        self.fails = False
        self.takes_seconds = 0.0

    def __call__(self) -> bool:
        self.count += 1
        self.clock.advance(self.takes_seconds)
        if self.fails:
            raise LockError("unreachable")
        return self.accepted


class Scene:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.beats = Beats(self.clock)
        self.told = 0
        self.heartbeat = Heartbeat(self.beats, lease_seconds=LEASE, clock=self.clock, on_lost=self.tell)

    def tell(self) -> None:
        self.told += 1


@pytest.fixture
def scene() -> Iterator[Scene]:
    before = threading.enumerate()
    scene = Scene()
    scene.heartbeat.start()
    scene.clock.wait_until_waiting(1)
    yield scene
    scene.heartbeat.stop()
    assert not [each for each in threading.enumerate() if "heartbeat" in each.name and each not in before]


def test_a_lease_is_renewed_three_times(scene: Scene) -> None:
    scene.clock.run_for(10 * LEASE)
    assert 25 <= scene.beats.count <= 35
    assert not scene.heartbeat.lost


def test_a_pause_of_the_machine_beyond_the_limit_loses_the_session(scene: Scene) -> None:
    scene.clock.advance(0.81 * LEASE)
    assert scene.heartbeat.lost
    scene.clock.run_for(LEASE)
    assert scene.told == 1
    assert scene.heartbeat.lost


def test_a_pause_within_the_limit_does_not_lose_the_session(scene: Scene) -> None:
    scene.clock.advance(0.79 * LEASE)
    assert not scene.heartbeat.lost


def test_failed_beats_are_soon_retried(scene: Scene) -> None:
    scene.beats.fails = True
    scene.clock.run_for(0.45 * LEASE)
    assert scene.beats.count >= 2
    scene.beats.fails = False
    scene.clock.run_for(LEASE)
    assert not scene.heartbeat.lost


def test_failed_beats_lose_the_session_at_the_limit(scene: Scene) -> None:
    scene.beats.fails = True
    lost_at = []
    for percent in (79, 81):
        scene.clock.run_for(LEASE * percent / 100 - (scene.clock.monotonic() - scene.heartbeat.sent))
        lost_at.append(scene.heartbeat.lost)
    assert lost_at == [False, True]
    assert scene.told == 1


def test_a_refused_beat_loses_the_session_at_once(scene: Scene) -> None:
    scene.beats.accepted = False
    scene.clock.run_for(0.4 * LEASE)
    assert scene.heartbeat.lost
    assert scene.told == 1


def test_a_beat_counts_from_when_it_was_sent(scene: Scene) -> None:
    scene.beats.takes_seconds = 0.4 * LEASE
    scene.clock.run_for(0.4 * LEASE)
    scene.beats.takes_seconds = 0.0
    # Sent after a third of a lease and answered 0.4 later: in time, but half of its own lease has already passed.
    assert not scene.heartbeat.lost
    assert scene.clock.monotonic() - scene.heartbeat.sent >= 0.4 * LEASE


def test_a_late_answer_does_not_revive_a_lost_session(scene: Scene) -> None:
    scene.beats.takes_seconds = 0.9 * LEASE
    scene.clock.run_for(0.4 * LEASE)
    assert scene.heartbeat.lost
    assert scene.told == 1


def test_an_unexpected_exception_in_a_beat_loses_the_session() -> None:
    clock, told = FakeClock(), threading.Event()
    answers = iter([True])
    heartbeat = Heartbeat(lambda: next(answers), lease_seconds=LEASE, clock=clock, on_lost=told.set)
    heartbeat.start()
    clock.wait_until_waiting(1)
    report, threading.excepthook = threading.excepthook, lambda args: None
    try:
        clock.run_for(0.4 * LEASE)
    finally:
        threading.excepthook = report
    assert told.is_set()
    assert heartbeat.lost
    heartbeat.stop()


def test_a_first_beat_that_fails_starts_nothing() -> None:
    def fail() -> bool:
        raise LockError("unreachable")

    heartbeat = Heartbeat(fail, lease_seconds=LEASE, clock=FakeClock())
    with pytest.raises(LockError):
        heartbeat.start()
    heartbeat.stop()


def test_a_call_that_finds_the_session_unknown_tells_of_the_loss_at_once() -> None:
    clock, told = FakeClock(), threading.Event()
    heartbeat = Heartbeat(Beats(clock), lease_seconds=LEASE, clock=clock, on_lost=told.set)
    heartbeat.start()
    clock.wait_until_waiting(1)
    heartbeat.lose()
    assert heartbeat.lost
    clock.run_for(0.0)
    assert told.wait(100.0)
    heartbeat.stop()


def test_a_stopped_session_is_not_lost_by_a_late_call() -> None:
    clock = FakeClock()
    heartbeat = Heartbeat(Beats(clock), lease_seconds=LEASE, clock=clock)
    heartbeat.start()
    heartbeat.stop()
    heartbeat.lose()
    assert not heartbeat.lost


def test_on_lost_can_stop_the_heartbeat() -> None:
    clock = FakeClock()
    beats = Beats(clock)
    heartbeat = Heartbeat(beats, lease_seconds=LEASE, clock=clock, on_lost=lambda: heartbeat.stop())
    heartbeat.start()
    clock.wait_until_waiting(1)
    clock.advance(LEASE)
    clock.run_for(LEASE)
    heartbeat.stop()
    assert heartbeat.lost


def test_a_stopped_heartbeat_does_not_become_lost(scene: Scene) -> None:
    scene.heartbeat.stop()
    scene.clock.advance(10 * LEASE)
    assert not scene.heartbeat.lost
    assert scene.told == 0


def test_a_bell_reaches_all_its_listeners() -> None:
    bell = Bell()
    with bell.listening() as one, bell.listening() as two:
        bell.ring()
        assert one.is_set()
        assert two.is_set()
    with bell.listening() as three:
        assert not three.is_set()


def test_a_bell_without_listeners_is_heard_once_later() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    with bell.listening() as one:
        assert one.is_set()
    with bell.listening() as two:
        assert not two.is_set()


def test_the_first_lease_setting_wins() -> None:
    assert checked_lease(None, 5, 30.0) == 5.0
    with pytest.raises(ConfigurationError, match="makes no sense"):
        checked_lease(0, 30.0)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")


def test_this_process_is_not_gone() -> None:
    assert not ProcessIdentity.current().is_gone()


@linux
def test_a_fork_has_an_identity_of_its_own() -> None:
    code = """
        import os
        from penstock.process.identity import ProcessIdentity
        parent = ProcessIdentity.current()
        if not (pid := os.fork()):
            own = ProcessIdentity.current()
            os._exit(own.pid != os.getpid() or own.started < parent.started)
        raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False).returncode == 0


@linux
def test_an_identity_that_could_not_be_read_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ProcessIdentity.current()
    identity._of_this_process.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(identity, "_line", lambda path: "")
        assert ProcessIdentity.current().boot == ""
    assert ProcessIdentity.current() == known


@linux
def test_a_killed_process_is_gone_even_before_its_parent_looks() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with child:
        stat = f"/proc/{child.pid}/stat"
        with open(stat) as file:
            started = file.read().rpartition(")")[2].split()[19]
        process = replace(ProcessIdentity.current(), pid=child.pid, started=started)
        assert not process.is_gone()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but not yet waited for
        assert process.is_gone()
        child.wait()
        assert process.is_gone()


@linux
def test_a_reused_pid_is_another_process() -> None:
    assert replace(ProcessIdentity.current(), started="1").is_gone()


@linux
@pytest.mark.parametrize("place", ["host", "boot", "namespace"])
def test_nothing_is_known_of_processes_on_other_machines(place: str) -> None:
    elsewhere = replace(ProcessIdentity.current(), started="1", **{place: "another"})  # type: ignore[arg-type]
    assert not elsewhere.is_gone()
    unknown = replace(ProcessIdentity.current(), pid=2**22 + 1, **{place: ""})
    assert not unknown.is_gone()


@pytest.mark.parametrize("odd", [None, True, "30", [], 0, -1, float("nan"), float("inf"), 10**400, 1e300])
def test_an_invalid_lease_is_refused(odd: Any) -> None:
    """Another user of the locks may have written it."""
    with pytest.raises(ConfigurationError):
        checked_lease(odd)
