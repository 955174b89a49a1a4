"""Locks in Redis when Redis restarts, stops or loses data, and when drivers are killed, paused or forked."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock.errors import LocksUnreachable, SessionLost
from penstock.locks import Holder, Lease, RedisLockManager, Session, Wakeup
from tests.locks.puppets import Process
from tests.servers.redis import RedisServer, free_port

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis")]

SHORT = 1.0
LONG = 600.0
"""A lease that no test waits for."""
SLACK = 60.0
"""The delay that a busy machine may add to what is promised."""
PATIENCE = 240.0

Start = Callable[..., Process]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Process] = []

    def start(server: RedisServer, lease_seconds: float = LONG, *, open_session: bool = True) -> Process:
        process = Process(server.url, lease_seconds)
        started.append(process)
        if open_session:
            process.ask("open")
        return process

    yield start
    for process in started:
        process.end()


def manager_of(server: RedisServer, lease_seconds: float = SHORT, **options: Any) -> RedisLockManager:
    return RedisLockManager.from_url(server.url, lease_seconds=lease_seconds, **options)


def take(session: Session, key: str) -> Lease:
    (lease,) = session.try_acquire([key])
    assert isinstance(lease, Lease), f"{key} is held by {lease}"
    return lease


def take_when_free(session: Session, key: str) -> Lease:
    limit = time.monotonic() + PATIENCE
    while isinstance(answer := session.try_acquire([key])[0], Holder):
        assert time.monotonic() < limit
        session.wait_any([key], PATIENCE)
    return answer


def eventually(reached: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < limit, "it did not come to that"
        time.sleep(0.01)


def listening(server: RedisServer) -> int:
    client = server.client()
    with client:
        return sum("sub=1" in entry or int(entry["sub"]) > 0 for entry in client.client_list())


# -- Redis in trouble -------------------------------------------------------------------------------------------------


def test_a_redis_that_restarts_empty_reassigns_the_lock_with_a_higher_token(own_redis: RedisServer) -> None:
    told = threading.Event()
    holder, other = manager_of(own_redis).open_session(on_lost=told.set), manager_of(own_redis)
    before = take(holder, "k")
    own_redis.kill()
    own_redis.start()
    late = other.open_session()
    after = take(late, "k")
    assert after.fencing_token > before.fencing_token
    assert told.wait(PATIENCE), "the first holder is not told that it lost its locks"
    with pytest.raises(SessionLost):
        holder.try_acquire(["k"])
    holder.release([before], "published")
    assert take(late, "k") == after
    holder.close()
    late.close()


def test_a_redis_that_lost_single_keys_never_issues_an_older_token(own_redis: RedisServer) -> None:
    session = manager_of(own_redis, LONG).open_session()
    client = own_redis.client()
    tokens = []
    for number in range(20):
        lease = take(session, "k")
        tokens.append(lease.fencing_token)
        if number % 2:
            session.release([lease], "failed")
            client.delete("{penstock}:fence")
        else:
            client.delete("{penstock}:locks")
    client.close()
    session.close()
    assert tokens == sorted(set(tokens))


def test_when_redis_stops_waits_end_in_time_and_the_holder_is_lost(own_redis: RedisServer) -> None:
    told = threading.Event()
    holder, waiter = manager_of(own_redis).open_session(on_lost=told.set), manager_of(own_redis).open_session()
    take(holder, "k")
    ended: list[Any] = []

    def wait() -> None:
        began = time.monotonic()
        try:
            ended.append(waiter.wait_any(["k"], 1.5))
        except LocksUnreachable as error:
            ended.append(error)
        ended.append(time.monotonic() - began)

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: listening(own_redis) == 1)
    own_redis.pause()
    try:
        assert told.wait(SHORT + SLACK)
        assert holder.lost
        thread.join(PATIENCE)
        assert isinstance(ended[0], LocksUnreachable)
        assert ended[1] < 1.5 + 2 * 0.5 + SLACK
        began = time.monotonic()
        with pytest.raises(LocksUnreachable):
            manager_of(own_redis).open_session()
        assert time.monotonic() - began < 2 * 0.5 + SLACK
    finally:
        own_redis.resume()
    holder.close()
    waiter.close()
    late = manager_of(own_redis).open_session()
    take_when_free(late, "k")
    late.close()


def test_an_unreachable_redis_is_a_clear_error() -> None:
    began = time.monotonic()
    with pytest.raises(LocksUnreachable) as caught:
        RedisLockManager("127.0.0.1", free_port()).open_session()
    assert time.monotonic() - began < SLACK
    assert "127.0.0.1" in caught.value.where
    assert "on_locks_down" in caught.value.hint


def test_the_next_session_does_not_notice_a_restart_between_two_calls(own_redis: RedisServer) -> None:
    manager = manager_of(own_redis, LONG)
    manager.open_session().close()
    own_redis.kill()
    own_redis.start()
    session = manager.open_session()
    take(session, "k")
    session.close()


def test_a_lost_subscription_is_renewed_and_loses_no_waiter(own_redis: RedisServer) -> None:
    holder, waiter = manager_of(own_redis, LONG).open_session(), manager_of(own_redis, LONG).open_session()
    first = take(holder, "k")
    woken: list[list[Wakeup]] = []
    client = own_redis.client()

    released = threading.Event()

    def wait() -> None:
        while not released.is_set():
            woken.append(waiter.wait_any(["k"], PATIENCE))

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: listening(own_redis) == 1)
    assert client.client_kill_filter(_type="pubsub") == 1
    eventually(lambda: listening(own_redis) == 1 and len(woken) > 0)
    released.set()
    holder.release([first], "published")
    thread.join(PATIENCE)
    client.close()
    # The first wait is ended by the broken connection. Another may be by the renewal, before the key is released.
    assert woken[0] == [Wakeup("k", None)]
    assert all(each in ([Wakeup("k", None)], [Wakeup("k", "published")]) for each in woken)
    holder.close()
    waiter.close()


def test_a_lost_wakeup_is_made_up_for(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, waiter = manager_of(own_redis, LONG).open_session(), manager_of(own_redis, LONG).open_session()
    lease = take(holder, "k")
    monkeypatch.setattr(holder._space, "channels", "{penstock}:nobody listens here:")  # type: ignore[attr-defined]
    thread = threading.Timer(0.3, holder.release, [[lease], "published"])
    thread.start()
    began = time.monotonic()
    assert waiter.wait_any(["k"], PATIENCE) == [Wakeup("k", None)]
    assert time.monotonic() - began < 5 + SLACK
    holder.close()
    waiter.close()


def test_a_release_still_under_way_frees_no_later_lease(own_redis: RedisServer) -> None:
    session, other = manager_of(own_redis, LONG, timeout_seconds=0.3).open_session(), manager_of(own_redis, LONG)
    first = take(session, "k")
    own_redis.pause()
    with pytest.raises(LocksUnreachable):
        session.release([first], "failed")  # it is in the server's buffer
    own_redis.resume()
    second = take(session, "k")
    assert second.fencing_token > first.fencing_token
    rival = other.open_session()
    assert isinstance(rival.try_acquire(["k"])[0], Holder)
    session.close()
    rival.close()


# -- drivers in trouble -----------------------------------------------------------------------------------------------


def test_no_two_processes_are_inside_at_once(own_redis: RedisServer, start: Start, tmp_path: Any) -> None:
    processes = [start(own_redis, open_session=False) for _ in range(6)]
    for process in processes:
        process.send("open")
    for process in processes:
        process.receive()
        process.send("contend", ["a", "b", "c"], 60, str(tmp_path))
    assert [process.receive() for process in processes] == [[60, 0]] * 6


def test_a_killed_holder_is_replaced_within_its_lease(own_redis: RedisServer, start: Start) -> None:
    holder, waiter = start(own_redis, SHORT), start(own_redis)
    holder.ask("acquire", "k")
    waiter.begin_waiting("k")
    killed = time.monotonic()
    holder.signal(signal.SIGKILL)
    assert waiter.receive() - killed < SHORT + 1 + SLACK


def test_a_stopped_holder_loses_its_lock_and_is_informed(own_redis: RedisServer, start: Start) -> None:
    holder, waiter, third = start(own_redis, SHORT), start(own_redis), start(own_redis)
    holder.ask("acquire", "k")
    waiter.begin_waiting("k")
    stopped = time.monotonic()
    holder.signal(signal.SIGSTOP)
    assert waiter.receive() - stopped < SHORT + 1 + SLACK
    holder.signal(signal.SIGCONT)
    assert holder.ask("lost") is True
    assert holder.ask("acquire", "k") == "lost"
    holder.ask("release", "k")
    assert holder.ask("heard_of_loss") == 1
    holder.ask("close")
    assert third.ask("acquire", "k") is None


def test_a_holder_whose_interpreter_is_blocked_past_its_lease_is_informed(own_redis: RedisServer, start: Start) -> None:
    holder, other = start(own_redis, SHORT), start(own_redis)
    assert holder.ask("acquire_many", 5000) == 5000
    holder.ask("block_python", 2.5 * SHORT)
    assert holder.ask("lost") is True
    assert holder.ask("heard_of_loss") == 1
    assert other.ask("acquire_many", 5000) == 5000


def test_killed_waiters_leave_nothing(own_redis: RedisServer, start: Start) -> None:
    holder, waiters = start(own_redis), start(own_redis, SHORT, open_session=False)
    holder.ask("acquire", "k")
    client = own_redis.client()
    for _ in range(5):
        assert waiters.ask("killed_waiters", "k", 10) == 10
        assert {key for key in client.scan_iter() if client.ttl(key) < 0} == set()
    # The holder's next heartbeats find the dead waiters; here, the heartbeat of another session finds them sooner.
    eventually(lambda: _after_a_beat(own_redis) == 1)
    assert sorted(client.keys()) == sorted(
        [
            "{penstock}:fence",
            "{penstock}:info",
            "{penstock}:locks",
            "{penstock}:sessions",
            *client.keys("{penstock}:held:*"),
        ]
    )
    assert len(client.keys("{penstock}:held:*")) == 1
    holder.ask("close")
    assert client.keys() == ["{penstock}:fence"]
    client.close()


def _after_a_beat(server: RedisServer) -> int:
    """Return the number of sessions after one more has opened and closed."""
    manager_of(server).open_session().close()
    with server.client() as client:
        return int(client.zcard("{penstock}:sessions"))


def test_a_forked_child_cannot_use_its_parents_session(own_redis: RedisServer, start: Start) -> None:
    holder, other = start(own_redis), start(own_redis)
    token = holder.ask("acquire", "k")
    child, child_lost, child_acquired = holder.ask("fork", "k")
    try:
        assert (child_lost, child_acquired) == (True, "lost")
        assert other.ask("acquire", "k") is None
        assert holder.ask("lost") is False
        assert holder.ask("acquire", "k") == token
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_surviving_child_does_not_keep_its_killed_parents_lock(own_redis: RedisServer, start: Start) -> None:
    holder, waiter = start(own_redis, SHORT), start(own_redis)
    holder.ask("acquire", "k")
    child, *_ = holder.ask("fork", "k")
    try:
        waiter.begin_waiting("k")
        killed = time.monotonic()
        holder.signal(signal.SIGKILL)
        assert waiter.receive() - killed < SHORT + 1 + SLACK
        os.kill(child, 0)  # it is still alive
    finally:
        os.kill(child, signal.SIGKILL)


def test_another_process_can_take_locks_for_the_driver(own_redis: RedisServer, start: Start) -> None:
    driver, worker, other = start(own_redis), start(own_redis, open_session=False), start(own_redis)
    worker.ask("join", driver.ask("open"))
    assert isinstance(worker.ask("acquire", "k"), int)
    assert other.ask("acquire", "k") is None
    worker.signal(signal.SIGKILL)
    assert other.ask("acquire", "k") is None, "the driver keeps what its dead worker took"
    driver.ask("close")
    assert isinstance(other.ask("acquire", "k"), int)


def test_a_session_knows_that_redis_has_forgotten_it_as_soon_as_a_call_finds_out(own_redis: RedisServer) -> None:
    told = threading.Event()
    session = manager_of(own_redis, LONG).open_session(on_lost=told.set)
    own_redis.client().flushall()
    with pytest.raises(SessionLost):
        session.try_acquire(["k"])
    assert session.lost
    assert told.wait(PATIENCE)
    session.close()
