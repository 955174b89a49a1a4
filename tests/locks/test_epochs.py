"""Orders of events in which epochs could go wrong, each written by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from penstock.errors import LockError, StoreUnreachable
from penstock.locks import epochs as epochs_module
from penstock.locks.base import Holder, Lease, Session, Wakeup
from penstock.locks.epochs import SETTLED_SECONDS, Epoch, Epochs
from penstock.locks.slots import SlotLockManager
from penstock.storage.stores.base import Listed
from penstock.storage.stores.memory import MemoryStore
from penstock.testing.clocks import FakeClock

Hook = Callable[[], None]


class ScriptedStore(MemoryStore):
    """A memory store that calls a hook just before, or in the middle of, the next call of a kind."""

    def __init__(self) -> None:
        super().__init__()
        self.before_create: Hook | None = None
        self.before_put: Hook | None = None
        self.within_list: Hook | None = None
        self.lose_answer_of: str | None = None
        self.puts: list[str] = []

    def put_if_absent(self, name: str, data: bytes) -> bool:
        hook, self.before_create = self.before_create, None
        if hook:
            hook()
        done = super().put_if_absent(name, data)
        self._lose_answer("put_if_absent")
        return done

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        hook, self.before_put = self.before_put, None
        if hook:
            hook()
        self.puts.append(name)
        super().put(name, data)
        self._lose_answer("put")

    def list(self, prefix: str) -> Iterator[Listed]:
        # A folder is listed like this: all names at once, then each file in turn. The hook comes after the first.
        names, found = [entry.name for entry in super().list(prefix)], []
        for name in names:
            if self.get(name) is not None:
                found.append(Listed(name, 0, 0.0))
            hook, self.within_list = self.within_list, None
            if hook:
                hook()
        return iter(found)

    def _lose_answer(self, call: str) -> None:
        if self.lose_answer_of == call:
            self.lose_answer_of = None
            raise StoreUnreachable("the answer was lost")


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sessions(store: ScriptedStore, clock: FakeClock) -> Iterator[list[Session]]:
    """Four sessions of four managers, as on four machines, with leases much longer than the tests."""
    opened = [
        SlotLockManager(store, reach="network", poll_seconds=(0.5, 5.0), clock=clock).open_session(lease_seconds=1e6)
        for _ in range(4)
    ]
    yield opened
    for session in opened:
        session.close()


def take(session: Session, key: str = "k") -> Lease:
    (lease,) = session.try_acquire([key])
    assert isinstance(lease, Lease)
    return lease


def turn_over(session: Session, clock: FakeClock, times: int) -> None:
    """Take and release, each time long enough for old epochs to be deleted."""
    for _ in range(times):
        session.release([take(session)], "failed")
        clock.advance(2 * SETTLED_SECONDS)
    # Releases also clear up.
    session.release([take(session)], "failed")


def numbers(store: MemoryStore) -> list[int]:
    return [int(entry.name.rpartition("/")[2]) for entry in MemoryStore.list(store, "locks/")]


def test_old_epochs_are_deleted_once_they_are_settled(
    store: ScriptedStore, clock: FakeClock, sessions: list[Session]
) -> None:
    for _ in range(3):
        sessions[0].release([take(sessions[0])], "failed")
    assert numbers(store) == [1, 2, 3]
    clock.advance(0.9 * SETTLED_SECONDS)
    sessions[0].release([take(sessions[0])], "failed")
    assert numbers(store) == [1, 2, 3, 4]
    clock.advance(0.2 * SETTLED_SECONDS)
    sessions[0].release([take(sessions[0])], "failed")
    assert numbers(store)[-1] == 5
    assert 1 not in numbers(store)


def test_the_last_epoch_of_a_key_is_kept(store: ScriptedStore, clock: FakeClock, sessions: list[Session]) -> None:
    turn_over(sessions[0], clock, 5)
    sessions[0].close()
    assert max(numbers(store)) == 6


@pytest.mark.parametrize("first_taken", [False, True])
def test_a_slow_contender_that_recreates_a_deleted_number_holds_nothing(
    store: ScriptedStore, clock: FakeClock, sessions: list[Session], first_taken: bool
) -> None:
    slow, quick, holder, _ = sessions
    if first_taken:
        slow.release([take(slow)], "failed")
    mine = 2 if first_taken else 1

    def others_pass_it_on() -> None:
        turn_over(quick, clock, 4)
        take(holder)
        assert mine not in numbers(store)

    store.before_create = others_pass_it_on
    (answer,) = slow.try_acquire(["k"])
    assert mine in numbers(store), "the scenario did not happen"
    assert isinstance(answer, Holder)
    assert answer.session_id == holder.id


def stale_contender_with_a_slow_listing(store: ScriptedStore, clock: FakeClock, sessions: list[Session]) -> bool:
    """Tell whether a contender trusts a re-created number while every higher one is replaced during its listing."""
    quick, holder, _, _ = sessions
    contender = Epochs(store, clock=clock)
    assert contender.tops(["k"]) == {"k": None}
    turn_over(quick, clock, 4)
    stale = Epoch("k", 1, "slow", {}, 0.0)
    assert contender.create(stale)

    def others_pass_it_on() -> None:
        turn_over(quick, clock, 4)
        take(holder)

    store.within_list = others_pass_it_on
    return contender.is_top(stale)


def test_a_slow_listing_is_not_trusted(store: ScriptedStore, clock: FakeClock, sessions: list[Session]) -> None:
    assert not stale_contender_with_a_slow_listing(store, clock, sessions)


def test_without_a_time_limit_for_listings_two_contenders_would_hold(
    store: ScriptedStore, clock: FakeClock, sessions: list[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs_module, "LISTING_SECONDS", float("inf"))
    assert stale_contender_with_a_slow_listing(store, clock, sessions)


def test_a_late_release_frees_nothing(store: ScriptedStore, clock: FakeClock, sessions: list[Session]) -> None:
    late, operator, holder, fourth = sessions
    lease = take(late)

    def lock_is_broken_and_passed_on() -> None:
        assert SlotLockManager(store, reach="network", poll_seconds=(1, 1), clock=clock).break_lock("k", 1)
        turn_over(operator, clock, 4)
        take(holder)
        assert 1 not in numbers(store)

    store.before_put = lock_is_broken_and_passed_on
    late.release([lease], "published")
    assert 1 in numbers(store), "the scenario did not happen"
    (answer,) = fourth.try_acquire(["k"])
    assert isinstance(answer, Holder)
    assert answer.session_id == holder.id


def test_a_lock_acquired_without_an_answer_is_found_by_the_next_attempt(
    store: ScriptedStore, sessions: list[Session]
) -> None:
    store.lose_answer_of = "put_if_absent"
    with pytest.raises(LockError):
        sessions[0].try_acquire(["k"])
    assert isinstance(sessions[1].try_acquire(["k"])[0], Holder)
    assert take(sessions[0]).fencing_token == 1


def test_a_lock_acquired_without_an_answer_is_released_by_close(store: ScriptedStore, sessions: list[Session]) -> None:
    store.lose_answer_of = "put_if_absent"
    with pytest.raises(LockError):
        sessions[0].try_acquire(["k"])
    sessions[0].close()
    assert sessions[1].wait_any(["k"], 0) == [Wakeup("k", "abandoned")]


def test_a_lock_released_without_an_answer_is_not_reused(store: ScriptedStore, sessions: list[Session]) -> None:
    lease = take(sessions[0])
    before, store.lose_answer_of = store.get(store.puts[0]), "put"
    assert before is not None
    held = [(entry.name, store.get(entry.name)) for entry in store.list("locks/")]
    with pytest.raises(LockError):
        sessions[0].release([lease], "published")
    # Pretend that the release is still under way and may arrive at any time from now on.
    for name, data in held:
        assert data is not None
        store.put(name, data)
    assert take(sessions[0]).fencing_token > lease.fencing_token


def test_a_changed_holder_wakes_a_waiter_that_missed_the_release(
    store: ScriptedStore, clock: FakeClock, sessions: list[Session]
) -> None:
    first, waiter, second, _ = sessions
    lease = take(first)
    heard: list[Wakeup] = []
    thread = threading.Thread(target=lambda: heard.extend(waiter.wait_any(["k"], 100.0)))
    thread.start()
    clock.wait_until_waiting(5)
    first.release([lease], "published")
    take(second)
    clock.run_for(6.0)
    thread.join()
    assert heard == [Wakeup("k", None)]


def test_an_unreachable_store_is_a_lock_error(store: ScriptedStore, sessions: list[Session]) -> None:
    lease = take(sessions[0])
    store.lose_answer_of = "put"
    with pytest.raises(LockError, match="the answer was lost"):
        sessions[0].release([lease], "failed")


def test_an_object_of_another_format_is_refused(store: ScriptedStore, sessions: list[Session]) -> None:
    take(sessions[0])
    (name,) = [entry.name for entry in store.list("locks/")]
    store.put(name, b'{"v": 99}')
    with pytest.raises(LockError, match="cannot be read"):
        sessions[1].try_acquire(["k"])
    with pytest.raises(LockError, match="cannot be read"):
        sessions[0].close()
    assert list(store.list(f"sessions/{sessions[0].id}")) == []
    store.delete(name)


def test_a_key_too_long_for_a_record_can_be_locked(sessions: list[Session]) -> None:
    long = "x" * 200_000
    take(sessions[0], long + "1")
    take(sessions[1], long + "2")
    assert isinstance(sessions[2].try_acquire([long + "1"])[0], Holder)


def test_a_store_that_overwrites_is_refused() -> None:
    class Careless(MemoryStore):
        def put_if_absent(self, name: str, data: bytes) -> bool:
            self.put(name, data)
            return True

    manager = SlotLockManager(Careless(), reach="network", poll_seconds=(1, 1))
    with pytest.raises(LockError, match="cannot hold locks"):
        manager.open_session()
