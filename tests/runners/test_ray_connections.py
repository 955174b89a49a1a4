"""Connections of a RayRunner: which are refused, what was left behind, and when to try again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.servers.rays import free_ports, outcome
from tests.servers.tcp import gate

pytestmark = [pytest.mark.slow, pytest.mark.needs("ray", "grpc", "psutil")]

TELLS = """
        def tells(runner, *facts):
            try:
                say(doubles.with_options(runner=runner)(3))
            except PenstockError as error:
                say(type(error).__name__, "-", error.what, "-", error.where, "-", error.hint)
"""


@pytest.fixture(autouse=True)
def settings(ray_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))


# -- tokens


@pytest.mark.parametrize("way", ["direct", "client"])
@pytest.mark.parametrize("mode", ["none", "without", "wrong"])
def test_the_error_for_a_wrong_token_says_so(
    way: str, mode: str, cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where the user who runs the tests may have a token
    if mode == "none":
        monkeypatch.delenv("RAY_AUTH_MODE")
    if mode == "wrong":
        monkeypatch.setenv("RAY_AUTH_TOKEN", os.urandom(16).hex())
    else:
        monkeypatch.delenv("RAY_AUTH_TOKEN")
    [line] = outcome(tmp_path, TELLS + f"        tells(RayRunner({cluster[way]!r}))")
    assert line.startswith(f"RunnerError - the Ray cluster does not let this process in - {cluster[way]} - ")
    assert "RAY_AUTH_TOKEN" in line


def test_a_long_token_is_sent_completely() -> None:
    from penstock.runners.remote.grpc_calls import encoded

    assert encoded("x" * 126) == b"\x7e" + b"x" * 126
    assert encoded("x" * 127) == b"\x7f\x00" + b"x" * 127
    assert encoded("x" * 1337) == b"\x7f\xba\x09" + b"x" * 1337


# -- addresses left behind by a Ray -


def test_an_address_left_behind_by_a_dead_ray_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [dead] = free_ports(1)
    folder = tmp_path / "tmp"
    (folder / "ray").mkdir(parents=True)
    (folder / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{dead}")
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    # Where other tests run Rays, `auto` would mean one of those: here, only the file counts.
    alone = """
        from ray._private import services
        services.find_gcs_addresses = lambda: set()
    """
    [line] = outcome(tmp_path, alone + TELLS + "        tells(RayRunner('auto'))")
    assert line.startswith(f"RunnerError - no Ray cluster answers - 127.0.0.1:{dead} (auto) - ")
    assert "`ray stop`" in line


def test_a_machine_without_a_ray_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "tmp"))
    alone = """
        from ray._private import services
        services.find_gcs_addresses = lambda: set()
    """
    [line] = outcome(tmp_path, alone + TELLS + "        tells(RayRunner('auto'))")
    assert line.startswith("RunnerError - no Ray cluster runs on this machine - auto - ")


def test_a_dead_address_in_the_environment_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [dead] = free_ports(1)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{dead}")
    [line] = outcome(tmp_path, TELLS + "        tells(RayRunner())")
    assert line.startswith(f"RunnerError - no Ray cluster answers - 127.0.0.1:{dead} (RAY_ADDRESS) - ")


# -- another attempt


@pytest.mark.in_ci
def test_a_connection_that_breaks_while_being_made_is_retried(cluster: dict[str, str], tmp_path: Path) -> None:
    failed = tmp_path / "failed"
    port = int(cluster["client"].rpartition(":")[2])
    with gate(port, lambda number: number == 0 or failed.exists()) as through:  # the first only checks who answers
        lines = outcome(
            tmp_path,
            TELLS
            + f"""
        import ray
        import ray.util.client.worker as client

        from penstock.runners.ray import clusters as ray_clusters

        ray_clusters.CONNECT_SECONDS = 600
        usual = client.INITIAL_TIMEOUT_SEC, client.MAX_TIMEOUT_SEC
        client.INITIAL_TIMEOUT_SEC = client.MAX_TIMEOUT_SEC = 1  # the first one gives up sooner
        init = ray.init

        def telling(*args, **options):
            try:
                return init(*args, **options)
            except Exception as error:
                say(type(error).__name__, error)
                client.INITIAL_TIMEOUT_SEC, client.MAX_TIMEOUT_SEC = usual
                Path("failed").touch()
                raise

        ray.init = telling
        tells(RayRunner("ray://127.0.0.1:{through}"))
        """,
        )
    assert lines[0].startswith("ConnectionError")
    assert lines[-1] == "6", lines


@pytest.mark.in_ci
def test_a_ray_that_times_out_at_its_start_is_started_again(tmp_path: Path) -> None:
    lines = outcome(
        tmp_path,
        TELLS
        + """
        import ray
        init = ray.init

        def late(*args, **options):
            ray.init = init
            raise Exception("The current node timed out during startup.")  # as Ray says it

        ray.init = late
        tells(RayRunner(num_cpus=1))
        """,
    )
    assert lines == ["6"]


def test_a_ray_that_does_not_start_is_not_blamed_on_clients(tmp_path: Path) -> None:
    lines = outcome(
        tmp_path,
        TELLS
        + """
        import ray
        from penstock.runners.ray import clusters as ray_clusters

        ray_clusters.START_SECONDS = 0.1
        ray.init = lambda *args, **options: time.sleep(60)
        tells(RayRunner(num_cpus=1))
        """,
    )
    assert lines[0].startswith("RunnerError - cannot connect to Ray -")
    assert "session_latest/logs" in lines[0]
    assert "client" not in lines[0]
