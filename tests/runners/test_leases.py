"""The locks of a driver whose lock manager does not answer: nothing is forgotten, and the driver does not block."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from penstock.driver.effects.leases import Leases
from penstock.driver.effects.lock_outages import ASK_AGAIN_SECONDS
from penstock.errors import LocksUnreachable, SessionLost
from penstock.locks import Holder, Lease, MemoryLockManager
from penstock.testing.clocks import FakeClock

PATIENCE = 10.0


class AwayManager(MemoryLockManager):
    """A lock manager that does not answer while `away`. `calls` lists the threads that called it."""

    def __init__(self) -> None:
        super().__init__(lease_seconds=1000.0)
        self.away = False
        self.calls: list[str] = []

    def called(self) -> None:
        self.calls.append(threading.current_thread().name)
        if self.away:
            raise LocksUnreachable("no answer")

    def ping(self) -> None:
        self.called()

    def open_session(self, **options: Any) -> Any:
        self.called()
        return _Session(self, super().open_session(**options))


class _Session:
    def __init__(self, manager: AwayManager, session: Any) -> None:
        self._manager, self._session = manager, session

    def __getattr__(self, name: str) -> Any:
        if name in ("try_acquire", "release", "free"):
            self._manager.called()
        return getattr(self._session, name)


class Scene:
    """Leases of a manager, with a clock that the test moves."""

    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock()
        self.manager = AwayManager()
        self.woken: queue.Queue[str] = queue.Queue()
        self.told: list[str] = []
        self.leases = Leases(
            info={},
            on_wake=self.woken.put,
            on_down=lambda doing, error, unlocked: self.told.append(doing),
            patience=PATIENCE,
            clock=self.clock,
            **{"on_lost": lambda held: None, **options},
        )

    def let_it_be_asked(self) -> None:
        """Let time pass until the manager is asked again and the answer is known."""
        before = len(self.manager.calls)
        self.clock.wait_until_waiting(1)
        self.clock.advance(ASK_AGAIN_SECONDS)
        while len(self.manager.calls) == before:
            threading.Event().wait(0.001)

    def acquire(self, *keys: str) -> list[Lease | Holder | None]:
        return list(self.leases.acquire(self.manager, {key: key for key in keys}).values())

    def taken_by_another(self, key: str) -> bool:
        """Tell whether another session gets the lock, which it then releases."""
        other = MemoryLockManager.open_session(self.manager)
        (answer,) = other.try_acquire([key])
        other.close()
        return isinstance(answer, Lease)


@pytest.fixture
def make() -> Iterator[Callable[..., Scene]]:
    made: list[Scene] = []

    def make(**options: Any) -> Scene:
        made.append(Scene(**options))
        return made[-1]

    yield make
    for scene in made:
        scene.manager.away = False
        scene.leases.close()


def held(scene: Scene, keys: Sequence[str] = ("k",)) -> Scene:
    assert all(isinstance(answer, Lease) for answer in scene.acquire(*keys))
    return scene


def test_a_lost_session_loses_its_locks_and_that_is_reported(make: Callable[..., Scene]) -> None:
    lost: list[int] = []
    scene = held(make(on_lost=lost.append), ["a", "b"])
    before = scene.leases.lease("a")
    (presence,) = scene.leases._presences._presences.values()
    presence.session.try_acquire = _raises(SessionLost("its lease ran out"))  # type: ignore[method-assign]
    (answer,) = scene.acquire("c")
    assert isinstance(answer, Lease)
    assert before is not None
    assert answer.session_id != before.session_id
    assert lost == [2]
    assert (scene.leases.lease("a"), scene.leases.lease("b")) == (None, None)
    assert scene.leases.lease("c") == answer


def test_a_loss_reported_by_the_heartbeat_is_not_reported_again(make: Callable[..., Scene]) -> None:
    lost: list[int] = []
    scene = held(make(on_lost=lost.append))
    (presence,) = scene.leases._presences._presences.values()
    scene.leases._presences._report_loss(scene.manager)
    presence.session.try_acquire = _raises(SessionLost("its lease ran out"))  # type: ignore[method-assign]
    scene.acquire("c")
    assert lost == [1]


def _raises(error: Exception) -> Callable[..., Any]:
    def raises(*args: Any, **options: Any) -> Any:
        raise error

    return raises


def test_a_release_without_an_answer_is_sent_again(make: Callable[..., Scene]) -> None:
    scene = held(make())
    scene.manager.away = True
    scene.leases.release("k", "failed")
    scene.leases.flush()
    assert scene.told == ["release locks"]
    scene.manager.away = False
    scene.let_it_be_asked()
    assert scene.woken.get(timeout=100) == "k"
    assert not scene.taken_by_another("k")
    scene.leases.flush()
    assert scene.taken_by_another("k")


def test_locks_released_during_an_outage_are_sent_too(make: Callable[..., Scene]) -> None:
    scene = held(make(), ["k", "l", "m"])
    scene.manager.away = True
    for key in ("k", "l", "m"):
        scene.leases.release(key, "published")
        scene.leases.flush()
    scene.manager.away = False
    scene.let_it_be_asked()
    assert {scene.woken.get(timeout=100) for _ in range(3)} == {"k", "l", "m"}
    scene.leases.flush()
    assert [scene.taken_by_another(key) for key in ("k", "l", "m")] == [True] * 3


def test_the_driver_calls_an_unreachable_manager_only_once(make: Callable[..., Scene]) -> None:
    scene = held(make())
    scene.manager.away = True
    scene.manager.calls.clear()
    assert scene.acquire("l") == [None]
    scene.leases.release("k", "failed")
    for key in ("m", "n"):
        scene.leases.flush()
        assert scene.acquire(key) == [None]
        assert scene.leases.free(scene.manager, [key]) == [key]
    for _ in range(3):
        scene.let_it_be_asked()
    assert scene.manager.calls == [threading.current_thread().name, *["penstock-asking"] * 3]
    scene.manager.away = False
    scene.let_it_be_asked()
    assert {scene.woken.get(timeout=100) for _ in range(4)} == {"k", "l", "m", "n"}
    assert [type(answer) for answer in scene.acquire("l", "m", "n")] == [Lease] * 3


def test_a_manager_that_is_unreachable_for_too_long_is_an_error(make: Callable[..., Scene]) -> None:
    scene = held(make())
    scene.manager.away = True
    assert scene.acquire("l") == [None]
    for _ in range(int(PATIENCE / ASK_AGAIN_SECONDS)):
        scene.let_it_be_asked()
    assert scene.woken.empty()
    scene.let_it_be_asked()
    assert scene.woken.get(timeout=100) == "l"
    with pytest.raises(LocksUnreachable):
        scene.acquire("l")


def test_a_manager_that_came_back_gets_the_whole_patience_again(make: Callable[..., Scene]) -> None:
    scene = held(make())
    for key in ("l", "m"):
        scene.manager.away = True
        assert scene.acquire(key) == [None]
        scene.manager.away = False
        scene.let_it_be_asked()
        assert scene.woken.get(timeout=100) == key
        held(scene, [key])
        scene.clock.advance(2 * PATIENCE)


def test_a_manager_that_never_answered_is_an_error_at_once(make: Callable[..., Scene]) -> None:
    scene = make()
    scene.manager.away = True
    with pytest.raises(LocksUnreachable):
        scene.acquire("k")


def test_a_run_that_may_run_unlocked_does_so_during_an_outage_and_locks_again_later(make: Callable[..., Scene]) -> None:
    scene = make(run_unlocked=True)
    scene.manager.away = True
    scene.manager.calls.clear()
    for key in ("k", "l"):
        (answer,) = scene.acquire(key)
        assert isinstance(answer, Lease)
        assert answer.session_id == ""
    assert scene.manager.calls == [threading.current_thread().name]
    assert scene.told == ["lock"]
    for _ in range(int(2 * PATIENCE)):
        scene.let_it_be_asked()
    scene.manager.away = False
    scene.let_it_be_asked()
    assert {scene.woken.get(timeout=100) for _ in range(2)} == {"k", "l"}
    (answer,) = scene.acquire("m")
    assert isinstance(answer, Lease)
    assert answer.session_id


def test_a_closed_driver_is_not_woken(make: Callable[..., Scene]) -> None:
    scene = held(make())
    scene.manager.away = True
    assert scene.acquire("l") == [None]
    scene.manager.away = False
    scene.leases.close()
    scene.clock.advance(ASK_AGAIN_SECONDS)
    assert scene.taken_by_another("k")
    assert scene.woken.empty()
