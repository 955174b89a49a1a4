"""A lookup index in Redis, which may evict, expire or lose entries."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.errors import LockError
from penstock.redis.address import RedisAddress, parse_url
from penstock.redis.client import RedisClient

KEEP_SECONDS = 7 * 24 * 3600
"""Entries expire after this time."""
TIMEOUT_SECONDS = 1.0
"""The timeout of a call, in which a store would have answered, too."""
QUIET_SECONDS = 10.0
"""How long an index that did not answer is not used."""
_BATCH = 1_000

_T = TypeVar("_T")
_log = logging.getLogger("penstock.store")


class RedisIndex:
    """A `penstock.storage.stores.indexing.LookupIndex` shared by all users of the same Redis and `prefix`.

    Safe for use by several threads and after a fork. Connections are opened on first use.

    Its keys are `{PREFIX:index}:SPACE:NAME`, with the bytes of a record as their value, for a week. All of them are in
    one hash slot of a Redis Cluster. A separate Redis with `maxmemory-policy allkeys-lru` is best; a Redis with locks
    must not evict keys.

    Anyone who can write to it can forge results, like anyone who can write to the store.
    """

    def __init__(self, address: RedisAddress, password: str | None, *, prefix: str, clock: Clock) -> None:
        self._client = RedisClient(address, password, TIMEOUT_SECONDS)
        self._prefix = f"{{{prefix}:index}}"
        self._clock = clock
        self._quiet_until = -QUIET_SECONDS

    @classmethod
    def from_url(cls, url: str, *, prefix: str | None = None, clock: Clock = SYSTEM_CLOCK) -> RedisIndex:
        """Return the index in the Redis at a URL, as for `RedisLockManager.from_url`. Raises `ConfigurationError`."""
        address, password = parse_url(url)
        return cls(address, password, prefix=prefix or dict(address.extras).get("prefix", "penstock"), clock=clock)

    def get_many(self, space: str, names: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for start in range(0, len(names), _BATCH):
            keys = [self._key(space, name) for name in names[start : start + _BATCH]]
            found += self._try(lambda client: client.mget(keys)) or [None] * len(keys)  # noqa: B023 (called at once)
        return found

    def put_many(self, space: str, records: Mapping[str, bytes]) -> None:
        pending = [(self._key(space, name), data) for name, data in records.items()]

        def put(client: Any) -> None:
            with client.pipeline(transaction=False) as pipeline:
                for key, data in batch:
                    pipeline.set(key, data, ex=KEEP_SECONDS)
                pipeline.execute()

        for start in range(0, len(pending), _BATCH):
            batch = pending[start : start + _BATCH]
            self._try(put)

    def check(self) -> None:
        """Check whether Redis answers. Raises `LockError` if it does not."""
        self._client.call(lambda client, redis: client.ping())

    def _key(self, space: str, name: str) -> str:
        return f"{self._prefix}:{space}:{name}"

    def _try(self, work: Callable[[Any], _T]) -> _T | None:
        """Return `work(client)`, or None if Redis does not answer, which is logged from time to time."""
        if self._clock.monotonic() < self._quiet_until:
            return None
        try:
            return self._client.call(lambda client, redis: work(client))
        except LockError as error:
            self._quiet_until = self._clock.monotonic() + QUIET_SECONDS
            _log.warning(
                "the lookup index at %s is not used for %g s (%s): lookups go to the store, which takes longer",
                self._client.address,
                QUIET_SECONDS,
                error.because,
            )
            return None

    def __repr__(self) -> str:
        return f"RedisIndex({self._client.address})"
