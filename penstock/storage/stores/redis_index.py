"""A look-up index in a Redis, which may evict, expire or lose any of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.errors import LockError
from penstock.redis.address import RedisAddress, parse_url
from penstock.redis.client import RedisClient

KEEP_SECONDS = 7 * 24 * 3600
"""What was not told again for so long is forgotten."""
TIMEOUT_SECONDS = 1.0
"""Of one call: a store answers in that time too."""
QUIET_SECONDS = 10.0
"""So long an index that did not answer is left alone."""
_BATCH = 1_000

_T = TypeVar("_T")
_log = logging.getLogger("penstock.store")


class RedisIndex:
    """A `penstock.storage.stores.indexing.LookupIndex` for all who use the same Redis and the same `prefix`. Safe for
    threads and after a fork; opens connections on first use.

    Its keys are `{PREFIX:index}:SPACE:NAME`, each with the bytes of a record, for a week. All of them are in one slot
    of a Redis Cluster. A Redis of its own with `maxmemory-policy allkeys-lru` suits it best; one that locks are kept
    in must not evict.

    Whoever can write to it can make runs believe in results that are not there, as whoever can write to the store can.
    """

    def __init__(self, address: RedisAddress, password: str | None, *, prefix: str, clock: Clock) -> None:
        self._client = RedisClient(address, password, TIMEOUT_SECONDS)
        self._prefix = f"{{{prefix}:index}}"
        self._clock = clock
        self._quiet_until = -QUIET_SECONDS

    @classmethod
    def from_url(cls, url: str, *, prefix: str | None = None, clock: Clock = SYSTEM_CLOCK) -> RedisIndex:
        """The index in the Redis at `url`, as of `RedisLockManager.from_url`. Raises `ConfigurationError`."""
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
        """As of any index; raises `LockError`, as all that is told to a Redis does."""
        self._client.call(lambda client, redis: client.ping())

    def _key(self, space: str, name: str) -> str:
        return f"{self._prefix}:{space}:{name}"

    def _try(self, work: Callable[[Any], _T]) -> _T | None:
        """What `work` gets out of Redis; None if it does not answer, which is told once in a while."""
        if self._clock.monotonic() < self._quiet_until:
            return None
        try:
            return self._client.call(lambda client, redis: work(client))
        except LockError as error:
            self._quiet_until = self._clock.monotonic() + QUIET_SECONDS
            _log.warning(
                "the look-up index at %s is not used for %g s (%s): look-ups go to the store, which takes longer",
                self._client.address,
                QUIET_SECONDS,
                error.because,
            )
            return None

    def __repr__(self) -> str:
        return f"RedisIndex({self._client.address})"
