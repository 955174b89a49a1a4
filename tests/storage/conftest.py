"""The servers, besides those in buckets, that stores are tested with."""

from tests.servers.redis import _shared_redis, own_redis, redis_server

__all__ = ["_shared_redis", "own_redis", "redis_server"]
