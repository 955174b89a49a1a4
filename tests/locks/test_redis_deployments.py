"""Locks in Redis as deployed in practice: with restricted users, with TLS, with sentinels, as a cluster."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from penstock.cli.main import main
from penstock.errors import LockError, LocksUnreachable
from penstock.locks import Holder, Lease, LockManager, RedisLockManager, Wakeup
from tests.servers.packages import unpacked_or_failed
from tests.servers.redis import RedisServer, running

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis")]

PATIENCE = 240.0
RIGHTS = (
    "~{penstock}:*",
    "&{penstock}:*",
    "-@all",
    *("+eval", "+evalsha", "+publish", "+subscribe", "+unsubscribe", "+ping", "+time"),
    *("+client|setname", "+zadd", "+zscore", "+zrem", "+zrangebyscore", "+hget", "+hset", "+hdel", "+hscan"),
    *("+get", "+set", "+sadd", "+srem", "+spop", "+exists", "+pexpire"),
)
"""What docs/locks.md says a user needs."""


def use_every_operation(manager: LockManager) -> None:
    """Take, be refused, wait, get a release message, list, break, close."""
    holder, waiter = manager.open_session(info={"run": "r"}), manager.open_session()
    try:
        (lease,) = holder.try_acquire(["k"])
        assert isinstance(lease, Lease)
        assert isinstance(waiter.try_acquire(["k"])[0], Holder)
        woken: list[list[Wakeup]] = []
        thread = threading.Thread(target=lambda: woken.append(waiter.wait_any(["k"], PATIENCE)))
        thread.start()
        time.sleep(0.3)  # so that it waits; if it does not yet, it may only see that the key is free
        holder.release([lease], "published")
        thread.join(PATIENCE)
        assert woken in ([[Wakeup("k", "published")]], [[Wakeup("k", None)]])
        (lease,) = holder.try_acquire(["k"])
        assert isinstance(lease, Lease)
        assert [held.info["run"] for held in manager.ls()] == ["r"]
        assert manager.break_lock("k", lease.fencing_token)
    finally:
        holder.close()
        waiter.close()


# -- users ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(own_redis: RedisServer) -> RedisServer:
    with own_redis.client() as client:
        client.execute_command("ACL", "SETUSER", "locker", "on", ">pass", *RIGHTS)
        client.execute_command("ACL", "SETUSER", "stranger", "on", ">pass", "~other:*", "+@all")
        client.execute_command("ACL", "SETUSER", "default", "off")
    return own_redis


def test_the_documented_rights_are_enough(guarded: RedisServer) -> None:
    use_every_operation(RedisLockManager("127.0.0.1", guarded.port, username="locker", password="pass"))


def test_the_documentation_lists_these_rights() -> None:
    page = (Path(__file__).parents[2] / "docs" / "locks.md").read_text(encoding="utf-8")
    assert [right for right in RIGHTS if right not in page] == []


def test_a_password_can_come_from_a_file(guarded: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("pass\n")
    monkeypatch.setenv("PENSTOCK_REDIS_PASSWORD_FILE", str(tmp_path / "secret"))
    RedisLockManager.from_url(f"redis://locker@127.0.0.1:{guarded.port}").open_session().close()


@pytest.mark.parametrize("user", ["nobody:secret", "locker:secret", "stranger:pass"])
def test_a_refused_login_is_a_clear_error(guarded: RedisServer, user: str) -> None:
    with pytest.raises(LockError) as caught:
        RedisLockManager.from_url(f"redis://{user}@127.0.0.1:{guarded.port}").open_session()
    assert "denied access" in caught.value.what
    assert "secret" not in str(caught.value)
    assert not isinstance(caught.value, LocksUnreachable), "waiting would not help"


def test_a_full_redis_is_a_clear_error() -> None:
    with running("--maxmemory", "1", "--maxmemory-policy", "noeviction") as server:
        manager = RedisLockManager.from_url(server.url)
        with pytest.raises(LockError, match="no memory left"):
            manager.open_session()


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    program = shutil.which("openssl") or unpacked_or_failed("openssl").program("openssl")
    command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_tls_with_a_self_signed_certificate(certificates: Path) -> None:
    cert, key = str(certificates / "cert.pem"), str(certificates / "key.pem")
    options = ("--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
    with running("--port", "0", *options, tls=True) as server:
        use_every_operation(RedisLockManager.from_url(f"rediss://127.0.0.1:{server.port}?ssl_ca_certs={cert}"))
        with pytest.raises(LocksUnreachable, match="did not answer") as caught:
            RedisLockManager.from_url(f"rediss://127.0.0.1:{server.port}").open_session()
        assert "certificate" in caught.value.because.lower()


# -- more than one server ---------------------------------------------------------------------------------------------


def eventually(reached: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < limit, "it did not come to that"
        time.sleep(0.05)


def test_a_cluster_keeps_a_namespace_on_one_node() -> None:
    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        nodes = [stack.enter_context(running(*options)) for _ in range(3)]
        clients = [stack.enter_context(node.client()) for node in nodes]
        for index, client in enumerate(clients):
            client.execute_command("CLUSTER", "ADDSLOTS", *range(index * 5462, min((index + 1) * 5462, 16384)))
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        facts = {"cluster_state": "ok", "cluster_known_nodes": "3"}
        eventually(lambda: all(facts.items() <= c.execute_command("CLUSTER INFO").items() for c in clients))
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        for prefix in ("one", "two", "three"):
            manager = RedisLockManager.from_url(f"redis+cluster://{hosts}?prefix={prefix}")
            use_every_operation(manager)
            session = manager.open_session()
            session.try_acquire(["k"])
            having = [client for client in clients if client.keys(f"{{{prefix}}}:*")]
            session.close()
            assert len(having) == 1


@pytest.fixture
def replicated() -> Iterator[tuple[RedisServer, RedisServer, list[RedisServer]]]:
    with ExitStack() as stack:
        master = stack.enter_context(running())
        replica = stack.enter_context(running("--replicaof", f"127.0.0.1 {master.port}"))
        sentinels = []
        for _ in range(3):
            sentinels.append(stack.enter_context(running(sentinel_of=master)))
        yield master, replica, sentinels


def test_sentinels_lead_to_the_new_master(replicated: tuple[RedisServer, RedisServer, list[RedisServer]]) -> None:
    master, _, sentinels = replicated
    hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
    manager = RedisLockManager.from_url(f"redis+sentinel://{hosts}/main", lease_seconds=2.0)
    use_every_operation(manager)
    session = manager.open_session()
    (before,) = session.try_acquire(["k"])
    with sentinels[0].client() as client:
        eventually(lambda: len(client.sentinel_slaves("main")) == 1 and len(client.sentinel_sentinels("main")) == 2)
    master.kill()

    def taken() -> bool:
        try:
            late = manager.open_session()
        except LocksUnreachable:
            return False
        try:
            (after,) = late.try_acquire(["k"])
            return isinstance(after, Lease) and after.fencing_token > before.fencing_token
        finally:
            late.close()

    eventually(taken)
    session.close()


# -- doctor -----------------------------------------------------------------------------------------------------------


def found(manager: RedisLockManager) -> dict[str, str]:
    return {finding.name: finding.state for finding in manager.examine()}


def test_doctor_reports_no_problem_with_a_plain_server(own_redis: RedisServer) -> None:
    assert found(RedisLockManager.from_url(own_redis.url)) == dict.fromkeys(
        ["redis latency", "redis clock", "redis", "redis memory", "redis persistence"], "ok"
    )
    shown = CliRunner().invoke(main, ["doctor", "--locks", own_redis.url, "--json"]).stdout
    assert '"redis memory"' in shown


def test_doctor_warns_of_a_server_that_evicts() -> None:
    with running("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as server:
        assert found(RedisLockManager.from_url(server.url))["redis memory"] == "warn"


def test_doctor_rejects_a_replica(own_redis: RedisServer) -> None:
    with running("--replicaof", f"127.0.0.1 {own_redis.port}") as replica:
        assert found(RedisLockManager.from_url(replica.url))["redis"] == "fail"


def test_doctor_reports_what_it_has_no_right_to_see(guarded: RedisServer) -> None:
    states = found(RedisLockManager("127.0.0.1", guarded.port, username="locker", password="pass"))
    assert states == {"redis latency": "ok", "redis clock": "ok", "redis": "warn"}
