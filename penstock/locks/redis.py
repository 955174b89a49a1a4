"""Locks in a Redis, for drivers on any number of machines.

`redis_scripts` holds what Redis does for each action. What is left here is when it is asked, and what follows when it
does not answer.
"""

from __future__ import annotations

import json
import os
import platform
import random
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NoReturn, TypeVar

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.errors import ConfigurationError, LockError, LocksUnreachable, SessionLost
from penstock.locks.base import DEFAULT_LEASE_SECONDS, Holder, Lease, Outcome, Reach, Session, Wakeup
from penstock.locks.redis_address import RedisAddress, parse_url, with_password
from penstock.locks.redis_client import RedisClient, imported
from penstock.locks.redis_listener import Listener
from penstock.locks.redis_scripts import ACQUIRE, BEAT, BREAK, END, KEEP_MS, LEFT, LOOK, RELEASE
from penstock.locks.sessions import Bell, Heartbeat, checked_lease, described, own_leases

T = TypeVar("T")

_BATCH = 500
"""Keys a script handles in one call, so that no call stops Redis for long."""
_LOOK_SECONDS = 5.0
"""A waiter looks this often, in case a message was lost."""
_JITTER_SECONDS = (0.005, 0.05)
"""Added to what is left of a dead holder's lease, so that waiters do not all come at once."""
_TIMEOUTS = (0.5, 3.0)
"""Of one call: a fifth of the lease, within these bounds."""


class RedisLockManager:
    """Locks in a Redis (5 or later, or what speaks its protocol and runs Lua), shared by whoever uses the same one and
    the same `prefix`.

    Guarantee: at most one session that is not `lost` holds a key, as long as Redis keeps what it was told and its
    clock does not jump. A killed holder's keys are free within its lease, a holder paused past its lease finds itself
    `lost`, and waiters hear of a release at once. If Redis restarts empty, fails over to a replica that lags, or
    evicts keys, a key may have two holders for up to a third of a lease: the work is done twice then, and the store
    still keeps one result. Fencing tokens grow through all of that, unless the clock is set back. Not guaranteed:
    order among waiters.

    Everything lies under keys with one hash tag, so a Redis Cluster keeps a namespace on one of its nodes.

    Pickles to its address without its password; where it is unpickled the password comes from the environment
    (`PENSTOCK_REDIS_PASSWORD`, or the file `PENSTOCK_REDIS_PASSWORD_FILE`).
    """

    reach: Reach = "network"

    def __init__(
        self,
        host: str = "localhost",
        port: int = 6379,
        db: int = 0,
        username: str | None = None,
        password: str | None = None,
        ssl: bool = False,
        *,
        prefix: str = "penstock",
        lease_seconds: float | None = None,
        timeout_seconds: float | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Touches nothing; the first session connects.

        `prefix` names the namespace: others do not see its locks. `lease_seconds` is how long locks outlive their
        driver's last heartbeat. `timeout_seconds` bounds a call of Redis, by default a fifth of the lease within 0.5
        and 3 s. Raises `ConfigurationError`.
        """
        address = RedisAddress(hosts=((host, port),), db=db, tls=ssl, username=username)
        self._configure(*with_password(address, password), prefix, lease_seconds, timeout_seconds, clock)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str | None = None,
        lease_seconds: float | None = None,
        timeout_seconds: float | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> RedisLockManager:
        """The manager of the Redis at `url`: `redis://[user[:password]@]host[:port][/db]`, `rediss://…` with TLS,
        `unix:///path`, `redis+sentinel://host,host/master[/db]`, `redis+cluster://host,host`.

        Parameters of the URL are `prefix`, `timeout`, and for TLS `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`,
        `ssl_cert_reqs` and `ssl_check_hostname`. A password is better left out of it: see the class. Raises
        `ConfigurationError`.
        """
        address, password = parse_url(url)
        extras = dict(address.extras)
        if timeout_seconds is None and "timeout" in extras:
            try:
                timeout_seconds = float(extras["timeout"])
            except ValueError:
                raise ConfigurationError("timeout is a number of seconds", where=str(address)) from None
        manager = cls.__new__(cls)
        manager._configure(
            address, password, prefix or extras.get("prefix", "penstock"), lease_seconds, timeout_seconds, clock
        )
        return manager

    def _configure(
        self,
        address: RedisAddress,
        password: str | None,
        prefix: str,
        lease_seconds: float | None,
        timeout_seconds: float | None,
        clock: Clock,
    ) -> None:
        if not prefix or set(prefix) & set("{}\n "):
            raise ConfigurationError(
                f"a prefix of keys cannot be {prefix!r}",
                where=str(address),
                because="it is a text without braces, blanks and line breaks",
            )
        self._address, self._password, self._prefix, self._clock = address, password, prefix, clock
        self._lease_seconds = checked_lease(lease_seconds, DEFAULT_LEASE_SECONDS)
        self._timeout_seconds = timeout_seconds
        timeout = min(max(self._lease_seconds / 5, _TIMEOUTS[0]), _TIMEOUTS[1])
        self.client = RedisClient(address, password, checked_lease(timeout_seconds, timeout))
        root = f"{{{prefix}}}:"
        self._sessions, self._info, self._locks, self._fence = (
            root + name for name in ("sessions", "info", "locks", "fence")
        )
        self._held_by = f"{root}held:"
        self._channels = f"{root}wake:"
        self._mutex = threading.Lock()
        self._pid = os.getpid()
        self._listener: Listener | None = None

    @property
    def prefix(self) -> str:
        return self._prefix

    @property
    def address(self) -> str:
        """Which Redis, without its password."""
        return str(self._address)

    def open_session(
        self,
        *,
        info: dict[str, str] | None = None,
        lease_seconds: float | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> Session:
        imported()
        return OwnSession(
            self, described(info, platform.node()), checked_lease(lease_seconds, self._lease_seconds), on_lost
        )

    def join_session(self, session_id: str) -> Session:
        return JoinedSession(self, session_id)

    def ls(self) -> list[Holder]:
        alive = dict(self._living())
        held = (
            (key, *value.decode().split(" "))
            for key, value in self.client.call(
                lambda client, _: dict(client.hscan_iter(self._locks, count=1000))
            ).items()
        )
        holders = [
            Holder(_text(key), session, int(token), alive[session], int(since) / 1000)
            for key, session, token, since in held
            if session in alive
        ]
        return sorted(holders, key=lambda holder: holder.key)

    def break_lock(self, key: str, fencing_token: int) -> bool:
        return bool(self.client.run(BREAK, [self._locks], [_bytes(key), fencing_token, self._channels]))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._address, self._prefix, self._lease_seconds, self._timeout_seconds)

    def __eq__(self, other: object) -> bool:
        # Policies that name the same locks are the same policy.
        return isinstance(other, RedisLockManager) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash((self._address, self._prefix))

    def __repr__(self) -> str:
        prefix = "" if self._prefix == "penstock" else f", prefix={self._prefix!r}"
        return f"RedisLockManager.from_url({str(self._address)!r}{prefix})"

    # -- for its sessions ----------------------------------------------------------------------------------------

    def _listening(self) -> Listener:
        """The subscription of this process; a forked one makes its own."""
        if self._pid != os.getpid():
            self._mutex, self._pid, self._listener = threading.Lock(), os.getpid(), None
        with self._mutex:
            if self._listener is None:
                self._listener = Listener(self.client, self._channels)
            return self._listener

    def _living(self) -> Iterator[tuple[str, dict[str, str]]]:
        """The sessions that are alive, with what they say of themselves."""

        def ask(client: Any, _: Any) -> tuple[list[bytes], list[bytes | None]]:
            seconds, micros = client.time()
            ids = client.zrangebyscore(self._sessions, f"({seconds * 1000 + micros // 1000}", "+inf")
            return ids, client.hmget(self._info, ids) if ids else []

        ids, infos = self.client.call(ask)
        for session, info in zip(ids, infos, strict=True):
            yield session.decode(), _info(info)

    def _all(self, session_id: str) -> list[str]:
        return [self._sessions, self._info, self._locks, self._fence, self._held_by + session_id]

    def _end(self, session_id: str, outcome: str) -> None:
        """Free everything a session holds, and forget it. Without an outcome it has to be dead."""
        keys = [self._sessions, self._info, self._locks, self._held_by + session_id]
        while self.client.run(END, keys, [session_id, self._channels, outcome, _BATCH]):
            pass


def _rebuilt(
    address: RedisAddress, prefix: str, lease_seconds: float, timeout_seconds: float | None
) -> RedisLockManager:
    manager = RedisLockManager.__new__(RedisLockManager)
    manager._configure(address, None, prefix, lease_seconds, timeout_seconds, SYSTEM_CLOCK)
    return manager


class _RedisSession:
    """What a session and another process's view of it have in common."""

    def __init__(self, manager: RedisLockManager, session_id: str) -> None:
        self._manager = manager
        self._id = session_id
        self._client = manager.client
        self._clock = manager._clock
        self._bell = Bell()
        self._closed = False
        # Tokens whose release got no answer: it may still arrive, so those leases are not taken up again.
        self._given_up: dict[str, int] = {}

    @property
    def id(self) -> str:
        return self._id

    @property
    def lost(self) -> bool:
        raise NotImplementedError

    def try_acquire(self, keys: Sequence[str]) -> list[Lease | Holder]:
        if self._closed:
            raise LockError("the session is closed", where=f"session {self._id}")
        self._refuse_if_lost()
        answers: list[Lease | Holder] = []
        for batch in _batches(keys):
            arguments = [part for key in batch for part in (_bytes(key), self._given_up.get(key, 0))]
            told = self._client.run(ACQUIRE, self._manager._all(self._id), [self._id, KEEP_MS, *arguments])
            if not told[0]:
                raise self._loss()
            answers += map(self._answer, batch, told[1:])
        # Time has passed: what was taken is not ours if the lease ran out meanwhile.
        self._refuse_if_lost()
        return answers

    def _answer(self, key: str, told: list[Any]) -> Lease | Holder:
        if told[0]:
            return Lease(key, self._id, int(told[1]))
        _, session, token, since, info = told
        return Holder(key, session.decode(), int(token), _info(info), int(since) / 1000)

    def release(self, leases: Iterable[Lease], outcome: Outcome) -> None:
        leases = own_leases(leases, self._id)
        if not leases or self.lost:
            return
        for batch in _batches(leases):
            given_up = {lease.key: lease.fencing_token for lease in batch}
            self._given_up |= given_up
            pairs = [part for lease in batch for part in (_bytes(lease.key), lease.fencing_token)]
            keys = [self._manager._locks, self._manager._held_by + self._id]
            self._client.run(RELEASE, keys, [self._id, self._manager._channels, outcome, *pairs])
            for key in given_up:
                self._given_up.pop(key, None)

    def wait_any(self, keys: Sequence[str], timeout: float) -> list[Wakeup]:
        deadline = self._clock.monotonic() + timeout
        by_name = {_bytes(key): key for key in keys}
        with self._bell.listening() as event, self._manager._listening().listening([*by_name], event) as ear:
            while True:
                # After the subscription stands: what is released from here on is heard.
                free, soonest = self._look(by_name)
                left = deadline - self._clock.monotonic()
                pause = min(left, _LOOK_SECONDS, soonest + random.uniform(*_JITTER_SECONDS))
                rung = not free and left > 0 and self._clock.wait(event, pause)
                if free or rung or left <= 0:
                    heard = {by_name[name]: outcome for name, outcome in list(ear.heard.items())}
                    if ear.broken and not heard:
                        heard = dict.fromkeys(keys)
                    return [Wakeup(key, outcome) for key, outcome in (dict.fromkeys(free) | heard).items()]

    def _look(self, by_name: dict[bytes, str]) -> tuple[list[str], float]:
        """The keys that are free, and the seconds until the first of the others may be, by its holder's lease."""
        free, soonest = [], float("inf")
        for batch in _batches(by_name):
            left = self._client.run(LOOK, [self._manager._sessions, self._manager._locks], batch)
            for name, ms in zip(batch, left, strict=True):
                if ms <= 0:
                    free.append(by_name[name])
                else:
                    soonest = min(soonest, ms / 1000)
        return free, soonest

    def wake(self) -> None:
        self._bell.ring()

    def _refuse_if_lost(self) -> None:
        if self.lost:
            raise self._loss()

    def _loss(self) -> SessionLost:
        return SessionLost(
            "the session's lease ran out, or Redis has forgotten it",
            where=f"session {self._id}",
            hint="its locks may belong to others now; open a new session and look at the store again",
        )

    def __reduce__(self) -> NoReturn:
        raise LockError("a session cannot be pickled", hint="send its id, and join_session() there")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id}>"


class OwnSession(_RedisSession):
    """A session with its heartbeat."""

    def __init__(
        self,
        manager: RedisLockManager,
        info: dict[str, str],
        lease_seconds: float,
        on_lost: Callable[[], None] | None,
    ) -> None:
        super().__init__(manager, uuid.uuid4().hex)
        self._lease_ms = max(1, round(lease_seconds * 1000))
        self._told = json.dumps(info)
        self._heartbeat = Heartbeat(self._beat, lease_seconds=lease_seconds, clock=manager._clock, on_lost=on_lost)
        self._heartbeat.start()

    @property
    def lost(self) -> bool:
        return self._heartbeat.lost

    def _beat(self) -> bool:
        told, self._told = self._told, ""
        try:
            alive, *dead = self._client.run(
                BEAT, self._manager._all(self._id), [self._id, self._lease_ms, max(KEEP_MS, 10 * self._lease_ms), told]
            )
        except LockError:
            self._told = told
            raise
        if alive:
            self._bury(dead)
        return bool(alive)

    def _bury(self, dead: list[bytes]) -> None:
        """Free what the dead held, so that those who wait for it are told."""
        for session in dead:
            try:
                self._manager._end(session.decode(), "")
            except LockError:
                return  # our own beat was accepted; the next one finds them again

    def close(self) -> None:
        if self._heartbeat.forked:
            return
        self._closed = True
        self._heartbeat.stop()
        self._bell.ring()
        try:
            self._manager._end(self._id, "abandoned")
        except LocksUnreachable:
            if not self.lost:
                raise


class JoinedSession(_RedisSession):
    """A worker's view of a driver's session. Asking for `lost` asks Redis."""

    @property
    def lost(self) -> bool:
        return bool(self._client.run(LEFT, [self._manager._sessions], [self._id]) <= 0)

    def close(self) -> None:
        self._closed = True
        self._bell.ring()


def _bytes(key: str) -> bytes:
    # Any string is a key, lone surrogates included.
    return key.encode("utf-8", "surrogatepass")


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogatepass")


def _info(data: bytes | None) -> dict[str, str]:
    return {} if data is None else dict(json.loads(data))


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch
