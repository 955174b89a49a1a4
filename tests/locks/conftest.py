"""The servers that locks are tested on, and drivers that share keys through one of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.locks.drivers import Scene
from tests.servers.redis import RedisServer, _shared_redis, own_redis, redis_server

__all__ = ["_shared_redis", "own_redis", "redis_server", "scene"]


@pytest.fixture
def scene(tmp_path: Path, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Programs that run one pipeline in one store, which this process uses too."""
    scene = Scene(tmp_path, own_redis.url)
    for name, value in scene.environment.items():
        monkeypatch.setenv(name, value)
    yield scene
    for driver in scene.drivers:
        driver.end()
