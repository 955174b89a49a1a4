"""A Redis client with bounded call times that survives forks and raises Penstock's errors."""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from penstock.errors import ConfigurationError, LockError, LocksUnreachable
from penstock.redis.address import RedisAddress, credentials, tls_arguments

R = TypeVar("R")


class RedisClient:
    """A client for one process. Connections are opened on first use, and again after a fork.

    A call takes at most about twice `timeout` seconds: it is tried a second time if the connection turned out to be
    broken, but never after a timeout.
    """

    def __init__(self, address: RedisAddress, password: str | None, timeout: float) -> None:
        self.address = address
        self.timeout = timeout
        self._password = password
        self._mutex = threading.Lock()
        self._pid = os.getpid()
        self._clients: dict[int, Any] = {}
        """Clients by the number of retries on a broken connection."""

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> Any:
        """Run a script, in one round trip if Redis has it cached. Raises `LockError`."""

        def run(client: Any, redis: Any) -> Any:
            try:
                return client.evalsha(script.sha, len(keys), *keys, *arguments)
            except redis.exceptions.NoScriptError:
                return client.eval(script.text, len(keys), *keys, *arguments)

        return self.call(run)

    def call(self, work: Callable[[Any, Any], R]) -> R:
        """Return `work(client, redis)`, where `redis` is the package. Raises `LockError`."""
        redis = imported()
        try:
            return work(self._connected(redis, retries=1), redis)
        except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException, OSError) as error:
            raise self.as_lock_error(error) from error

    def subscription(self) -> Any:
        """Return a subscription with its own connection, which does not reconnect, so that failures are noticed."""
        return self._connected(imported(), retries=0).pubsub()

    def as_lock_error(self, error: Exception) -> LockError:
        """Convert an error of redis-py."""
        redis = imported()
        errors = redis.exceptions
        because = f"{type(error).__name__}: {error}"
        where = str(self.address)
        if isinstance(error, errors.AuthenticationError | errors.AuthorizationError | errors.NoPermissionError) or (
            isinstance(error, errors.ResponseError) and str(error).startswith(("NOAUTH", "WRONGPASS", "NOPERM"))
        ):
            return LockError(
                "Redis denied access",
                where=where,
                because=because,
                hint="check the user and password; docs/locks.md lists the permissions that the user needs",
            )
        if isinstance(error, errors.OutOfMemoryError):
            return LockError(
                "Redis has no memory left for locks",
                where=where,
                because=because,
                hint="increase maxmemory, or use a separate Redis for locks",
            )
        if isinstance(error, errors.ResponseError) and not isinstance(
            error, errors.ReadOnlyError | errors.ClusterDownError
        ):
            return LockError("Redis rejected a command", where=where, because=because)
        return LocksUnreachable(
            "Redis did not answer",
            where=where,
            because=because,
            hint='check that it is running there, or set on_locks_down="run_unlocked" to run without locks meanwhile',
        )

    def _connected(self, redis: Any, *, retries: int) -> Any:
        if self._pid != os.getpid():
            # Forked: the sockets belong to the parent, and a thread that does not exist here may hold the mutex.
            self._mutex, self._pid, self._clients = threading.Lock(), os.getpid(), {}
        with self._mutex:
            if retries not in self._clients:
                self._clients[retries] = self._new_client(redis, retries=retries)
                weakref.finalize(self, self._clients[retries].close)
            return self._clients[retries]

    def _new_client(self, redis: Any, *, retries: int) -> Any:
        address = self.address
        options: dict[str, Any] = {
            "socket_timeout": self.timeout,
            "socket_connect_timeout": self.timeout,
            "socket_keepalive": True,
            # Only connections that failed at once: after a timeout there is no time left.
            "retry": redis.retry.Retry(
                redis.backoff.NoBackoff(), retries, supported_errors=(redis.exceptions.ConnectionError,)
            ),
            "client_name": "penstock",
            "protocol": 2,
            **tls_arguments(address),
        }
        if credentials(address, self._password):
            options["credential_provider"] = _provider(redis, address, self._password)
        if address.kind == "cluster":
            nodes = [redis.cluster.ClusterNode(host, port) for host, port in address.hosts]
            return redis.cluster.RedisCluster(startup_nodes=nodes, **options)
        options["db"] = address.db
        if address.kind == "sentinel":
            ours = ("socket_timeout", "socket_connect_timeout", *(name for name in options if name.startswith("ssl")))
            sentinel = redis.sentinel.Sentinel(
                list(address.hosts), sentinel_kwargs={name: options[name] for name in ours}, **options
            )
            return sentinel.master_for(address.master)
        if address.kind == "socket":
            return redis.Redis(unix_socket_path=address.path, **options)
        host, port = address.hosts[0]
        return redis.Redis(host=host, port=port, **options)


def _provider(redis: Any, address: RedisAddress, password: str | None) -> Any:
    class Provider(redis.credentials.CredentialProvider):  # type: ignore[misc]
        """Provides the credentials of every new connection."""

        def get_credentials(self) -> tuple[str, ...]:
            return credentials(address, password)

    return Provider()


def imported() -> Any:
    """Return the package `redis`. Raises `ConfigurationError` if it is not installed."""
    try:
        import redis
        import redis.backoff
        import redis.cluster
        import redis.credentials
        import redis.exceptions
        import redis.retry
        import redis.sentinel
    except ImportError as error:
        raise ConfigurationError(
            "using Redis requires the package redis",
            because=str(error),
            hint='pip install "penstock[redis]"',
        ) from error
    return redis


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the SHA-1 by which Redis identifies it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())
