"""The servers that locks are tested on."""

from tests.servers.redis import _shared_redis, own_redis, redis_server

__all__ = ["_shared_redis", "own_redis", "redis_server"]
