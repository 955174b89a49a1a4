"""Addresses of Redis servers, and that their passwords are not passed on."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.errors import ConfigurationError
from penstock.locks import RedisLockManager, lock_manager_from
from penstock.redis.address import credentials, parse_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://cache", "redis://cache:6379"),
        ("redis://cache:7000/3", "redis://cache:7000/3"),
        ("rediss://me:pw@cache", "rediss://me:***@cache:6379"),
        ("redis://:p%40w@[::1]:7000", "redis://:***@[::1]:7000"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
        ("redis+sentinel://a,b:7000/main/1", "redis+sentinel://a:26379,b:7000/main/1"),
        ("rediss+cluster://a:1,b:2", "rediss+cluster://a:1,b:2"),
    ],
)
def test_an_address_is_parsed_and_shown_without_its_password(url: str, shown: str) -> None:
    manager = lock_manager_from(url)
    assert isinstance(manager, RedisLockManager)
    assert manager.address == shown
    assert shown in repr(manager)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://host:port",
        "redis://host/one",
        "redis://host/0/1",
        "redis://a,b",
        "redis+sentinel://a",
        "redis://u:secret@host?colour=red",
        "redis://u:secret@host?timeout=soon",
        "redis://u:secret@host?prefix=a{b",
    ],
)
def test_an_invalid_address_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        lock_manager_from(url)
    assert "secret" not in str(caught.value)


def test_the_url_can_contain_the_prefix() -> None:
    assert RedisLockManager.from_url("redis://cache?prefix=team").prefix == "team"
    assert RedisLockManager.from_url("redis://cache?prefix=team", prefix="mine").prefix == "mine"


def test_the_arguments_are_those_of_a_redis_client() -> None:
    manager = RedisLockManager(host="cache", port=7000, db=1, username="me", password="pw", ssl=True)
    assert manager.address == "rediss://me:***@cache:7000/1"


def test_managers_of_the_same_locks_are_equal() -> None:
    one, two = RedisLockManager.from_url("redis://cache"), RedisLockManager("cache")
    assert one == two
    assert hash(one) == hash(two)
    assert one != RedisLockManager("cache", prefix="other")


def test_no_password_is_pickled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PENSTOCK_REDIS_PASSWORD", "hidden-in-environment")
    data = pickle.dumps(RedisLockManager.from_url("redis://me:hidden-in-url@cache"))
    assert b"hidden" not in data
    assert pickle.loads(data).address == "redis://me:***@cache:6379"


@pytest.mark.needs("redis")
def test_a_missing_password_is_requested_by_name() -> None:
    manager = pickle.loads(pickle.dumps(RedisLockManager.from_url("redis://:pw@cache")))
    with pytest.raises(ConfigurationError, match="PENSTOCK_REDIS_PASSWORD"):
        manager.open_session()


def test_credentials_come_from_code_then_the_environment_then_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address, _ = parse_url("redis://cache")
    assert credentials(address, None) == ()
    (tmp_path / "secret").write_text("from-file\n")
    monkeypatch.setenv("PENSTOCK_REDIS_PASSWORD_FILE", str(tmp_path / "secret"))
    assert credentials(address, None) == ("from-file",)
    (tmp_path / "secret").write_text("rotated\n")
    assert credentials(address, None) == ("rotated",)
    monkeypatch.setenv("PENSTOCK_REDIS_PASSWORD", "from-environment")
    monkeypatch.setenv("PENSTOCK_REDIS_USERNAME", "me")
    assert credentials(address, None) == ("me", "from-environment")
    assert credentials(address, "from-code") == ("me", "from-code")
    monkeypatch.delenv("PENSTOCK_REDIS_PASSWORD")
    monkeypatch.setenv("PENSTOCK_REDIS_PASSWORD_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="nowhere"):
        credentials(address, None)


def test_without_the_package_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from penstock.errors import ConfigurationError\n"
        "from penstock.locks import RedisLockManager\n"
        "try: RedisLockManager.from_url('redis://cache').open_session()\n"
        "except ConfigurationError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 'pip install "penstock[redis]"' in done.stdout


def test_a_manager_imports_no_client_before_it_is_used() -> None:
    program = (
        "import sys\n"
        "from penstock.locks import RedisLockManager\n"
        "RedisLockManager.from_url('redis://cache')\n"
        "print('redis' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
