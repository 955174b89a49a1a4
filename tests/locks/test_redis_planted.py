"""Whatever another program writes to the keys of the locks in Redis: a free lock, a held one or a clear error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.errors import PenstockError
from penstock.locks import Holder, Lease, RedisLockManager
from tests.servers.redis import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis")]

KEY = "aggregate/1"
STRANGER = "a" * 32
FAR = 4e15
"""A moment in the year 128 000, in milliseconds."""


@pytest.fixture
def thread_errors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    seen: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: seen.append(repr(told.exc_value)))
    yield seen
    assert not seen


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"no lock",
        b"\xff\xfe 1 1",
        b"%s word 1" % STRANGER.encode(),
        b"%s 1 %s" % (STRANGER.encode(), b"9" * 5000),
        b"%s -1 1" % STRANGER.encode(),
        b"%s 1 1 1" % STRANGER.encode(),
        b"../../etc/passwd 1 1",
    ],
)
def test_a_lock_that_no_script_wrote_is_free(redis_server: RedisServer, value: bytes, thread_errors: list[str]) -> None:
    manager, client = RedisLockManager.from_url(redis_server.url), redis_server.client()
    client.zadd("{penstock}:sessions", {STRANGER: FAR})
    client.hset("{penstock}:locks", KEY, value)
    with closing(manager.open_session()) as session:
        assert manager.ls() == []
        assert session.free([KEY]) == [KEY]
        (lease,) = session.try_acquire([KEY])
        assert isinstance(lease, Lease)
        assert [holder.session_id for holder in manager.ls()] == [session.id]
        session.release([lease], "abandoned")


@pytest.mark.parametrize("score", ["inf", "-inf", 1e300, -5, 1e17])
def test_a_session_with_an_impossible_lease_holds_nothing(redis_server: RedisServer, score: Any) -> None:
    manager, client = RedisLockManager.from_url(redis_server.url), redis_server.client()
    client.zadd("{penstock}:sessions", {STRANGER: score})
    client.hset("{penstock}:locks", KEY, f"{STRANGER} 1 1")
    with closing(manager.open_session()) as session:
        assert session.free([KEY]) == [KEY]
        assert isinstance(session.try_acquire([KEY])[0], Lease)


@pytest.mark.parametrize("fence", ["inf", "nan", "word", "-4", "9" * 400, "9007199254740993"])
def test_tokens_grow_whatever_the_stored_one_is(redis_server: RedisServer, fence: str) -> None:
    manager, client = RedisLockManager.from_url(redis_server.url), redis_server.client()
    client.set("{penstock}:fence", fence)
    with closing(manager.open_session()) as session:
        first, second = (session.try_acquire([name])[0] for name in ("one", "two"))
        assert isinstance(first, Lease)
        assert isinstance(second, Lease)
        assert 0 < first.fencing_token < second.fencing_token < 2**53


@pytest.mark.parametrize("name", [b"\xff\xfe", b"", b"two words", b"x" * 65, b"}:locks"])
def test_a_dead_session_without_a_name_is_removed_by_a_heartbeat(
    redis_server: RedisServer, name: bytes, thread_errors: list[str]
) -> None:
    client = redis_server.client()
    client.zadd("{penstock}:sessions", {name: 5})
    with closing(RedisLockManager.from_url(redis_server.url).open_session()) as session:
        assert not session.lost
        assert client.zrange("{penstock}:sessions", 0, -1) == [session.id]


def test_a_message_that_is_not_text_ends_no_wait(redis_server: RedisServer, thread_errors: list[str]) -> None:
    manager, client = RedisLockManager.from_url(redis_server.url), redis_server.client()
    with closing(manager.open_session()) as holding, closing(manager.open_session()) as waiting:
        (lease,) = holding.try_acquire([KEY])
        assert isinstance(lease, Lease)
        for number in range(64):
            client.publish(f"{{penstock}}:wake:{number}", b"\xff\xfe\n\xff")
        assert isinstance(waiting.try_acquire([KEY])[0], Holder)
        holding.release([lease], "published")
        assert [told.key for told in waiting.wait_any([KEY], 30.0)] == [KEY]


VALUES = st.one_of(
    st.binary(max_size=80),
    st.integers(-(2**70), 2**70).map(lambda number: str(number).encode()),
    st.floats().map(lambda number: str(number).encode()),
    st.builds(
        lambda session, token, since: b"%s %d %d" % (session, token, since),
        st.sampled_from([STRANGER.encode(), b"\xff", b"me", b"-"]),
        st.integers(-1, 2**70),
        st.integers(-1, 2**70),
    ),
)
PLANTS: dict[str, Callable[[Any, str, bytes], object]] = {
    "value": lambda client, name, value: client.set(name, value),
    "field": lambda client, name, value: client.hset(name, KEY, value),
    "session": lambda client, name, value: client.hset(name, STRANGER, value),
    "member": lambda client, name, value: client.zadd(name, {value: 5}),
    "alive": lambda client, name, value: client.zadd(name, {value: FAR}),
    "set": lambda client, name, value: client.sadd(name, value),
    "list": lambda client, name, value: client.rpush(name, value),
}
NAMES = ["sessions", "info", "locks", "fence", f"held:{STRANGER}"]


@settings(max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(planted=st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(sorted(PLANTS)), VALUES), max_size=4))
def test_any_key_can_hold_anything(
    redis_server: RedisServer, thread_errors: list[str], planted: list[tuple[str, str, bytes]]
) -> None:
    client = redis_server.client()
    client.flushall()
    client.zadd("{penstock}:sessions", {STRANGER: 5})
    for name, plant, value in planted:
        whole = f"{{penstock}}:{name}"
        client.delete(whole)
        PLANTS[plant](client, whole, value)
    manager = RedisLockManager.from_url(redis_server.url)
    _tried(manager.ls)
    _tried(lambda: manager.break_lock(KEY, 1))
    session = _tried(manager.open_session)
    if session is None:
        return
    answers = _tried(lambda: session.try_acquire([KEY])) or []
    _tried(lambda: session.wait_any([KEY], 0.0))
    _tried(manager.ls)
    _tried(lambda: session.release([each for each in answers if isinstance(each, Lease)], "published"))
    _tried(session.close)


def _tried(work: Callable[[], Any]) -> Any:
    """Return what it returns, or None if it raises an error of Penstock."""
    with suppress(PenstockError):
        return work()
    return None
