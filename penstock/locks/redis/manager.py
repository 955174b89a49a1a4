"""Locks in a Redis, for drivers on any number of machines: `RedisLockManager`.

`scripts` contains the actions of Redis, `sessions` calls them, `listener` notifies waiters of releases, and
`penstock.redis.client` defines time limits and errors.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from typing import Any

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.errors import ConfigurationError
from penstock.locks.base import DEFAULT_LEASE_SECONDS, Finding, Holder, Session
from penstock.locks.redis.health import examine
from penstock.locks.redis.namespace import Namespace, parsed, to_bytes, to_text
from penstock.locks.redis.scripts import BREAK, LIVING
from penstock.locks.redis.sessions import JoinedSession, OwnSession, info_of
from penstock.locks.sessions import checked_lease, described
from penstock.redis.address import RedisAddress, parse_url, with_password
from penstock.redis.client import RedisClient, imported
from penstock.storage.stores.base import Reach

_TIMEOUTS = (0.5, 3.0)
"""The bounds of the time for one call, in seconds. Within them it is a fifth of the lease."""


class RedisLockManager:
    """Locks in a Redis, shared by all processes that use the same Redis and the same `prefix`.

    The server must be Redis 5 or later, or another server with its protocol and Lua scripts.

    Guarantee: at most one session that is not `lost` holds a key, as long as Redis keeps its data and its clock does
    not jump. The keys of a killed holder are free within its lease, a holder that was paused for longer than its lease
    finds its session `lost`, and waiters are notified of a release at once. If Redis restarts empty, fails over to a
    replica that lags, or evicts keys, a key may have two holders for up to a third of a lease. The work is then done
    twice, and the store still keeps one result. Even then fencing tokens grow, unless the clock is set back. There is
    no guarantee about the order of waiters.

    All keys have one hash tag, so a Redis Cluster keeps a namespace on one of its nodes.

    Pickles to its address without its password. The process that unpickles it reads the password from the environment
    (`PENSTOCK_REDIS_PASSWORD`, or the file that `PENSTOCK_REDIS_PASSWORD_FILE` names).
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
        """Create a manager. Does not connect; the first session does.

        Args:
            host: The host of the server.
            port: The port of the server.
            db: The number of the database.
            username: The user, if the server has access control lists.
            password: The password; by default that of the environment.
            ssl: Whether to use TLS.
            prefix: The namespace. Locks in different namespaces do not affect each other.
            lease_seconds: How long locks outlive the last heartbeat of their session.
            timeout_seconds: The time limit of one call; by default a fifth of the lease, but between 0.5 and 3 s.
            clock: The clock, for tests.

        Raises:
            ConfigurationError: An argument is invalid.
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
        """Create a manager from a URL. Does not connect.

        Args:
            url: `redis://[user[:password]@]host[:port][/db]`, `rediss://…` with TLS, `unix:///path`,
                `redis+sentinel://host,host/master[/db]` or `redis+cluster://host,host`. Its parameters are `prefix`,
                `timeout`, and for TLS `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs` and
                `ssl_check_hostname`. Prefer the environment for the password; see the class.
            prefix: The namespace; by default that of the URL, or `penstock`.
            lease_seconds: How long locks outlive the last heartbeat of their session.
            timeout_seconds: The time limit of one call; by default that of the URL.
            clock: The clock, for tests.

        Raises:
            ConfigurationError: The URL or another argument is invalid.
        """
        address, password = parse_url(url)
        extras = dict(address.extras)
        if timeout_seconds is None and "timeout" in extras:
            try:
                timeout_seconds = float(extras["timeout"])
            except ValueError:
                raise ConfigurationError("timeout must be a number of seconds", where=str(address)) from None
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
                because="a prefix is a non-empty text without braces, blanks and line breaks",
            )
        self._address, self._password, self._prefix, self._clock = address, password, prefix, clock
        self._lease_seconds = None if lease_seconds is None else checked_lease(lease_seconds)
        self._timeout_seconds = timeout_seconds
        timeout = min(max(checked_lease(lease_seconds, DEFAULT_LEASE_SECONDS) / 5, _TIMEOUTS[0]), _TIMEOUTS[1])
        self.client = RedisClient(address, password, checked_lease(timeout_seconds, timeout))
        self._space = Namespace(self.client, prefix)

    @property
    def prefix(self) -> str:
        return self._prefix

    @property
    def lease_seconds(self) -> float | None:
        """The lease that the manager was given, in seconds; None if it was given none."""
        return self._lease_seconds

    @property
    def address(self) -> str:
        """The address of the Redis, without its password."""
        return str(self._address)

    def open_session(
        self,
        *,
        info: dict[str, str] | None = None,
        lease_seconds: float | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> Session:
        imported()
        seconds = checked_lease(lease_seconds, self._lease_seconds, DEFAULT_LEASE_SECONDS)
        return OwnSession(self._space, self._clock, described(info, platform.node()), seconds, on_lost)

    def ping(self) -> None:
        self.client.call(lambda client, _: client.ping())

    def join_session(self, session_id: str) -> Session:
        return JoinedSession(self._space, session_id, self._clock)

    def ls(self) -> list[Holder]:
        alive = dict(self._living())
        found = self.client.call(lambda client, _: dict(client.hscan_iter(self._space.locks, count=1000)))
        held = ((to_text(key), *lock) for key, value in found.items() if (lock := parsed(value)) is not None)
        holders = [
            Holder(key, session, token, alive[session], since / 1000)
            for key, session, token, since in held
            if session in alive
        ]
        return sorted(holders, key=lambda holder: holder.key)

    def break_lock(self, key: str, fencing_token: int) -> bool:
        return bool(self.client.run(BREAK, [self._space.locks], [to_bytes(key), fencing_token, self._space.channels]))

    def examine(self) -> Iterator[Finding]:
        """Yield findings about the server, for `penstock doctor`: latency, clock, version, eviction and persistence.

        Raises:
            LockError: The server does not answer.
        """
        return examine(self.client)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._address, self._prefix, self._lease_seconds, self._timeout_seconds)

    def __eq__(self, other: object) -> bool:
        # Policies with the same locks are equal.
        return isinstance(other, RedisLockManager) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash((self._address, self._prefix))

    def __repr__(self) -> str:
        prefix = "" if self._prefix == "penstock" else f", prefix={self._prefix!r}"
        return f"RedisLockManager.from_url({str(self._address)!r}{prefix})"

    def _living(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the sessions that are alive, with what they state about themselves."""
        told = self.client.run(LIVING, [self._space.sessions, self._space.info], [])
        for session, info in zip(told[::2], told[1::2], strict=True):
            yield session.decode(), info_of(info)


def _rebuilt(
    address: RedisAddress, prefix: str, lease_seconds: float | None, timeout_seconds: float | None
) -> RedisLockManager:
    manager = RedisLockManager.__new__(RedisLockManager)
    manager._configure(address, None, prefix, lease_seconds, timeout_seconds, SYSTEM_CLOCK)
    return manager
