"""A real redis-server for tests, on loopback, in memory only, ended by its process id.

    def test_something(redis_server):
        manager = RedisLockManager.from_url(redis_server.url)

The program comes from the PATH or else from the Debian package; without either, the test fails. A `conftest.py` beside
the tests imports the fixtures.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.packages import unpacked_or_failed

START_SECONDS = 300.0


class RedisServer:
    """One server: start, stop, pause, kill, and start again at the same port."""

    def __init__(self, folder: Path, *options: str, tls: bool = False, sentinel_of: RedisServer | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.options = options
        self.tls = tls
        self.sentinel_of = sentinel_of
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._popen is not None, "the server does not run"
        return self._popen.pid

    def start(self) -> RedisServer:
        program, environment = _program()
        if self.sentinel_of is not None:
            command = [program, str(self._sentinel_file()), "--sentinel"]
        else:
            command = [program, "--tls-port" if self.tls else "--port", str(self.port), "--bind", "127.0.0.1"]
            command += ["--dir", str(self.folder), "--save", "", "--appendonly", "no", *self.options]
        with open(self.folder / "redis.log", "ab") as log:
            self._popen = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        limit = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._popen.poll() is not None or time.monotonic() > limit:
                log_text = (self.folder / "redis.log").read_text(errors="replace")
                self.kill()
                pytest.fail(f"redis-server did not start:\n{log_text[-2000:]}", pytrace=False)
            time.sleep(0.01)  # nothing signals that a port is open
        return self

    def _sentinel_file(self) -> Path:
        """Return a file for sentinels, which need one that they can write to."""
        assert self.sentinel_of is not None
        file = self.folder / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor main 127.0.0.1 {self.sentinel_of.port} 2\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        )
        return file

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
            if self.tls:
                return True
            connection.settimeout(1.0)
            connection.sendall(b"PING\r\n")
            return bool(connection.recv(1))
        return False

    def client(self, **options: Any) -> Any:
        """Return a client for the test itself."""
        import redis

        return redis.Redis(port=self.port, decode_responses=True, socket_timeout=20, **options)

    def pause(self) -> None:
        """Pause the server: it accepts connections, but no longer answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the server, as a power cut does; its data is lost."""
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()
            self._popen = None


def free_port() -> int:
    """Return a free port whose neighbour 10 000 above, the cluster port, is free as well.

    It is below the range given to clients, so that it is still free after a restart.
    """
    while True:
        port = random.randrange(13_000, 22_000)
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port


@contextlib.contextmanager
def running(*options: str, tls: bool = False, sentinel_of: RedisServer | None = None) -> Iterator[RedisServer]:
    """A separate server for the block."""
    with tempfile.TemporaryDirectory(prefix="penstock-redis-") as folder:
        server = RedisServer(Path(folder), *options, tls=tls, sentinel_of=sentinel_of)
        try:
            yield server.start()
        finally:
            server.kill()


def _program() -> tuple[str, dict[str, str]]:
    installed = shutil.which("redis-server")
    if installed is not None:
        return installed, dict(os.environ)
    packages = unpacked_or_failed("redis-server")
    return packages.program("redis-server"), packages.environment()


@pytest.fixture(scope="session")
def _shared_redis() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@pytest.fixture
def redis_server(_shared_redis: RedisServer) -> RedisServer:
    """A server that tests share one after the other; it is empty."""
    client = _shared_redis.client()
    client.flushall()
    client.close()
    return _shared_redis


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server for one test, to be paused and killed."""
    with running() as server:
        yield server
