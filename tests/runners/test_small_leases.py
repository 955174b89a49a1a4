"""Small promises of a driver's locks when their manager is lost, closed or of no use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock.errors import LockError, LocksUnreachable, SessionLost
from penstock.locks import Lease, MemoryLockManager
from tests.runners.test_leases import Scene, _raises


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.manager.away = False
    made.leases.close()


def _session(scene: Scene) -> Any:
    (presence,) = scene.leases._presences._presences.values()
    return presence.session


def test_a_manager_that_cannot_lock_is_told_once_and_not_asked_again(scene: Scene) -> None:
    scene.acquire("a")
    _session(scene).try_acquire = _raises(LockError("this disk has no locks"))
    for key in ("b", "c"):
        answers = scene.leases.acquire(scene.manager, {key: key}, required=False)
        assert answers[key] == Lease(key, "", 0)  # the node runs without a lock
    assert scene.told == ["lock"]
    with pytest.raises(LockError, match="no locks"):
        scene.leases.acquire(scene.manager, {"d": "d"}, required=True)


def test_no_key_counts_as_held_while_the_manager_does_not_answer(scene: Scene) -> None:
    scene.acquire("a")
    assert scene.leases.free(scene.manager, ["a", "b"]) == ["b"]
    scene.manager.away = True
    assert scene.leases.free(scene.manager, ["a", "b"]) == ["a", "b"]


def test_watching_a_manager_that_was_never_asked_opens_no_session(scene: Scene) -> None:
    scene.leases.watch(scene.manager, ["a"])
    assert scene.manager.calls == []


def test_a_lock_of_a_lost_session_is_not_released_in_the_name_of_the_next(scene: Scene) -> None:
    scene.acquire("a")
    released: list[Any] = []
    _session(scene).try_acquire = _raises(SessionLost("its lease ran out"))
    scene.leases.release("a", "published")
    scene.leases._presences.drop(next(iter(scene.leases._presences._presences.values())))
    scene.acquire("b")
    _session(scene).release = lambda leases, outcome: released.extend(leases)
    scene.leases.flush()
    assert released == []


def test_sessions_that_are_lost_again_and_again_are_an_error(scene: Scene) -> None:
    scene.manager.open_session = _lost_sessions(scene.manager)  # type: ignore[method-assign]
    with pytest.raises(SessionLost):
        scene.leases.acquire(scene.manager, {"a": "a"}, required=True)
    assert scene.leases.lease("a") is None


def _lost_sessions(manager: MemoryLockManager) -> Callable[..., Any]:
    def opened(**options: Any) -> Any:
        session: Any = MemoryLockManager.open_session(manager, **options)
        session.try_acquire = _raises(SessionLost("its lease ran out"))
        return session

    return opened


def test_a_driver_that_ended_asks_a_manager_that_is_away_no_more(scene: Scene) -> None:
    scene.acquire("a")
    scene.leases.release("a", "published")
    scene.manager.away = True
    scene.leases.close()
    assert scene.leases._outages == {}
    assert scene.told == ["release locks"]


def test_a_borrowed_lock_that_cannot_be_given_back_is_told_and_the_run_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene.manager, "join_session", _raises(LocksUnreachable("no answer")))
    scene.leases._give_back(scene.manager, Lease("a", "outer", 1))
    assert scene.told == ["release a lock of the run around this one"]
