"""Check whether a Redis is suitable for locks: latency, clock, version, eviction and persistence."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

from penstock.errors import LockError, LocksUnreachable
from penstock.locks.base import Finding
from penstock.redis.client import RedisClient

_PINGS = 20
_SLOW_SECONDS = 0.05
_CLOCKS_APART_SECONDS = 10.0
_OLDEST = (5, 0)


def examine(client: RedisClient) -> Iterator[Finding]:
    """Yield the findings of all checks.

    Raises:
        LocksUnreachable: Redis does not answer.
    """
    yield from _latency(client)
    yield _clock(client)
    try:
        facts = client.call(lambda redis_client, _: _one_node(redis_client.info()))
    except LocksUnreachable:
        raise
    except LockError as error:
        yield Finding("redis", "warn", f"INFO was refused: {error.because}", "grant its user the command: +info")
        return
    yield _version(facts)
    yield _eviction(facts)
    yield _persistence(facts)


def _one_node(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of one node. A cluster answers for each node, and all have the same configuration."""
    return facts if "redis_version" in facts else next(iter(facts.values()))


def _latency(client: RedisClient) -> Iterator[Finding]:
    taken = []
    for _ in range(_PINGS):
        began = time.perf_counter()
        client.call(lambda redis_client, _: redis_client.ping())
        taken.append(time.perf_counter() - began)
    median, worst = statistics.median(taken), max(taken[1:])
    said = f"{1000 * median:.1f} ms a call, {1000 * worst:.1f} ms at worst"
    if median > _SLOW_SECONDS:
        yield Finding("redis latency", "warn", said, "each lock needs a call; use a Redis that is closer")
    else:
        yield Finding("redis latency", "ok", said)


def _clock(client: RedisClient) -> Finding:
    before = time.time()
    seconds, micros = client.call(lambda redis_client, _: redis_client.time())
    apart = seconds + micros / 1e6 - (before + time.time()) / 2
    if abs(apart) > _CLOCKS_APART_SECONDS:
        said = f"{abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} this machine's"
        hint = (
            "locks do not need it, but if the clock is corrected in one step, leases end early or late; correct it now"
        )
        return Finding("redis clock", "warn", said, hint)
    return Finding("redis clock", "ok", f"within {max(1, round(abs(apart)))} s of this machine's")


def _version(facts: dict[str, Any]) -> Finding:
    version = str(facts.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < _OLDEST:
        return Finding(
            "redis",
            "fail",
            f"version {version}",
            "use Redis 5 or later; scripts of older versions cannot read the time",
        )
    if facts.get("role") not in (None, "master"):
        return Finding(
            "redis",
            "fail",
            f"version {version}, a {facts['role']}",
            "use the address of the master, or of the sentinels",
        )
    return Finding("redis", "ok", f"version {version}")


def _eviction(facts: dict[str, Any]) -> Finding:
    policy, limit = str(facts.get("maxmemory_policy", "")), int(facts.get("maxmemory", 0))
    if limit == 0:
        return Finding("redis memory", "ok", "no limit, so nothing is evicted")
    said = f"at most {limit / 2**20:.0f} MiB, {policy}"
    if policy == "noeviction":
        return Finding("redis memory", "ok", said)
    hint = "an evicted lock may get a second holder; set maxmemory-policy noeviction, or use a separate Redis for locks"
    return Finding("redis memory", "warn", said, hint)


def _persistence(facts: dict[str, Any]) -> Finding:
    if int(facts.get("aof_enabled", 0)):
        return Finding("redis persistence", "ok", "append-only file")
    return Finding(
        "redis persistence",
        "ok",
        "no append-only file: after a restart, work in progress may be done twice",
    )
