"""The Ray that a RayRunner uses, and what becomes of it. A process has one Ray, so each test runs separate programs."""

from __future__ import annotations

import os
import signal
import socket
import textwrap
from pathlib import Path

import pytest

from tests.servers.rays import (
    LOSES,
    MACHINES,
    PATIENCE,
    free_ports,
    gone,
    kill_with_children,
    one_cluster,
    outcome,
    started,
    wait_for,
)

pytestmark = [pytest.mark.slow, pytest.mark.needs("ray", "grpc", "psutil")]


@pytest.fixture(autouse=True)
def settings(ray_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))


# -- a Ray of our own


@pytest.mark.in_ci
def test_a_ray_started_for_runs_serves_all_of_them_and_ends_with_the_last(tmp_path: Path) -> None:
    lines = outcome(
        tmp_path,
        """
        @task
        def until(path):
            while not Path(path).exists():
                time.sleep(0.01)
            return 1

        @flow
        def long(path):
            started.set()
            value = until(path).result()
            return value + double(1).result()

        started = threading.Event()
        results = []
        bound = long.with_options(runner=runner_from("ray?workers=2"))
        other = threading.Thread(target=lambda: results.append(bound("go")))
        first = doubles.with_options(runner=RayRunner(num_cpus=2))

        def starts_it():
            # Its thread, its driver and its run end long before the other run does.
            with RayRunner(num_cpus=2):
                other.start()
                started.wait()
                results.append(first(3))

        thread = threading.Thread(target=starts_it)
        thread.start()
        thread.join()
        pids = processes()
        Path("go").touch()
        other.join()
        import ray
        say(results, ray.is_initialized(), threading.active_count())
        say(*pids)
        say(len(processes()))
        """,
    )
    assert lines[0] == "[6, 3] False 1"
    assert lines[1] != ""
    assert gone([int(pid) for pid in lines[1].split()])
    assert lines[2] == "0"


def test_a_run_without_misses_starts_no_ray(tmp_path: Path) -> None:
    lines = outcome(
        tmp_path,
        """
        @flow
        def cached():
            return double.with_options(cache_policy=INPUTS)(4)

        say(cached.with_options(runner="threads")(), cached.with_options(runner="ray")(), "ray" in sys.modules)
        """,
    )
    assert lines == ["8 8 False"]


def test_ctrl_c_stops_the_calls_and_leaves_no_process(tmp_path: Path) -> None:
    program = """
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal, wherever the tests are run

        @task
        def spin(path):
            Path(path).write_text("running")
            while True:
                time.sleep(0.01)

        @flow(runner=RayRunner(num_cpus=2))
        def endless():
            return spin("mark")

        def tell():
            while not Path("mark").exists():
                time.sleep(0.01)
            say(*processes())

        threading.Thread(target=tell, daemon=True).start()
        try:
            endless()
        except KeyboardInterrupt:
            say("interrupted")
        """
    with started(tmp_path, program) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()[1:]]
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert out == "> interrupted\n", err
    assert gone(pids)


def test_a_ray_that_dies_is_one_error_and_the_next_run_starts_another(tmp_path: Path) -> None:
    lines = outcome(
        tmp_path,
        LOSES
        + textwrap.dedent("""
        import psutil

        def kill_ray():
            for child in psutil.Process().children(recursive=True):
                child.kill()

        when_running(kill_ray)
        bound = loses.with_options(runner=RayRunner(num_cpus=2))
        one_error(bound)
        Path("calm").touch()
        say(bound(), len(Path("kept").read_text()))
        say(threading.active_count())
        """),
    )
    assert lines == ["RunnerError - the Ray cluster is lost", "(1, 6) 4", "1"]


@pytest.mark.in_ci
def test_a_ray_that_dies_while_it_is_asked_for_its_machines_is_one_error(tmp_path: Path) -> None:
    lines = outcome(
        tmp_path,
        LOSES
        + textwrap.dedent("""
        import psutil, ray, signal

        def kill_ray():
            children = psutil.Process().children(recursive=True)
            [head] = [child for child in children if child.name() == "gcs_server"]
            asked, nodes = threading.Event(), ray.nodes

            def asking():
                head.send_signal(signal.SIGSTOP)  # it listens, and does not answer
                asked.set()
                return nodes()

            ray.nodes = asking
            asked.wait()
            for child in children:
                child.kill()

        when_running(kill_ray)
        one_error(loses.with_options(runner=RayRunner(num_cpus=2)))
        """),
    )
    assert lines == ["RunnerError - the Ray cluster is lost"]


# -- no Ray


def test_an_address_without_a_ray_is_an_error_within_seconds(tmp_path: Path) -> None:
    [dead] = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        silent = deaf.getsockname()[1]
        addresses = [f"127.0.0.1:{dead}", f"ray://127.0.0.1:{dead}", f"127.0.0.1:{silent}"]
        lines = outcome(
            tmp_path,
            f"""
            from penstock.runners.ray import answers as ray_answers

            ray_answers.ANSWER_SECONDS = 1.0
            for address in {addresses!r}:
                try:
                    doubles.with_options(runner=RayRunner(address))(3)
                except PenstockError as error:
                    say(type(error).__name__, error.what, error.where == address)
            """,
        )
    assert lines == ["RunnerError no Ray cluster answers True"] * 3


def test_the_error_for_missing_ray_says_how_to_install_it(tmp_path: Path) -> None:
    lines = outcome(
        tmp_path,
        """
        sys.modules["ray"] = None
        say(runner_from("ray"))
        try:
            doubles.with_options(runner="ray")(3)
        except PenstockError as error:
            say(type(error).__name__, error.what, "-", error.hint)
        """,
    )
    assert lines == ["RayRunner()", 'RunnerError Ray is not installed - pip install "penstock[ray]"']


# -- an existing Ray ---


def test_a_dead_machine_loses_no_result(tmp_path: Path) -> None:
    lines = outcome(
        tmp_path,
        MACHINES
        + textwrap.dedent("""
        from penstock.runtime import task_run

        cluster, far = two_machines()
        there = True

        def where(attempt):
            return {"far": 1} if there else {}

        def mark(name):
            with open(name, "a") as file:
                file.write("x")

        @task(resources=where)
        def make(name, size):
            mark(name)
            return "x" * size

        @task(resources=where)
        def linger(name):
            if not Path(name).exists():
                mark(name)
                while True:
                    time.sleep(0.01)
            return task_run.run_count

        @task
        def length(value, more):
            return len(value) + more

        @flow(runner=RayRunner())
        def survives():
            global there
            used, fetched = make("used", 1_000_000), make("fetched", 1_000_000)
            stored = make.with_options(cache_policy=INPUTS)("stored", 1_000_000)
            for each in (used, fetched, stored):
                each.wait()
            running = linger("lingers")
            length("", 0).wait()
            while not Path("lingers").exists():
                time.sleep(0.01)
            there = False
            cluster.remove_node(far, allow_graceful=False)
            lengths = [length(used, n) for n in range(3)] + [length(stored, 5)]
            return [each.result() for each in lengths], len(fetched.result()), len(stored.result()), running.result()

        say(survives())
        say({name: len(Path(name).read_text()) for name in ("used", "fetched", "stored")})
        ray.shutdown()
        cluster.shutdown()
        """),
    )
    assert lines[-2:] == [
        "([1000000, 1000001, 1000002, 1000005], 1000000, 1000000, 2)",
        "{'used': 2, 'fetched': 2, 'stored': 1}",
    ]


def test_an_existing_ray_is_used_and_not_shut_down(cluster: dict[str, str], tmp_path: Path) -> None:
    lines = outcome(
        tmp_path,
        f"""
        import ray

        ray.init({cluster["direct"]!r}, log_to_driver=False, logging_level="error")
        mine = ray.put("still here")
        before = ray.get_runtime_context().get_node_id()
        runner = RayRunner(num_cpus=2)

        @task
        def node():
            return ray.get_runtime_context().get_node_id()

        @flow(runner=runner)
        def asks():
            return node()

        @flow(runner=runner)
        def locks():
            return double.with_options(cache_policy=INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE))(1)

        with runner:
            say(asks() == before, runner.reach)
        say(ray.is_initialized(), ray.get(mine))
        try:
            locks()
        except PenstockError as error:
            say(error.what)
        """,
    )
    assert lines == [
        "True network",
        "True still here",
        "FileSystemLockManager cannot lock for RayRunner",
    ]


@pytest.mark.parametrize("way", ["direct", pytest.param("client", marks=pytest.mark.in_ci)])
def test_a_cluster_at_an_address_is_used_and_not_shut_down(way: str, cluster: dict[str, str], tmp_path: Path) -> None:
    program = f"""
        runner = RayRunner({cluster[way]!r})

        @task
        def text(n):
            return "x" * n

        @task(timeout_seconds=30)
        def length(text, more):
            return len(text) + more

        @flow(runner=runner)
        def sizes():
            made = text(1_000_000)
            cached = length.with_options(cache_policy=INPUTS)
            return [cached(made, n) for n in range(3)], len(made)

        with runner:
            say(sizes(), runner.reach)
            say(doubles.with_options(runner=runner)(20))
            say(sizes.run().counts["executed"])
        """
    assert outcome(tmp_path, program) == ["([1000000, 1000001, 1000002], 1000000) network", "380", "1"]


def test_the_running_calls_of_a_killed_driver_end(cluster: dict[str, str], tmp_path: Path) -> None:
    program = f"""
        @task
        def spin(path):
            Path(path + ".new").write_text(str(os.getpid()))
            Path(path + ".new").rename(path)
            while True:
                time.sleep(0.01)

        @flow(runner=RayRunner({cluster["direct"]!r}))
        def endless():
            return spin({str(tmp_path / "mark")!r})

        endless()
        """
    with started(tmp_path, program) as process:
        wait_for((tmp_path / "mark").exists)
        process.kill()
    assert gone([int((tmp_path / "mark").read_text())])


@pytest.mark.in_ci
def test_a_cluster_at_an_address_that_dies_is_one_error(ray_environment: None, tmp_path: Path) -> None:
    with one_cluster() as (addresses, cluster):
        text = f"""
            from penstock.runners.ray import engine as ray_engine

            ray_engine.RETURN_SECONDS = 1.0
            one_error(loses.with_options(runner=RayRunner({addresses["direct"]!r})))
            """
        loses = LOSES.replace('"mark"', f'"{tmp_path}/mark"')  # workers have another folder
        with started(tmp_path, loses + textwrap.dedent(text)) as program:
            wait_for((tmp_path / "mark").exists)
            kill_with_children(cluster)
            said = program.communicate(timeout=PATIENCE)[0]
    assert "> RunnerError - the Ray cluster is lost" in said, said


def test_ray_address_names_the_cluster(
    cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster["direct"])
    assert outcome(tmp_path, "say(RayRunner().reach, doubles.with_options(runner='ray')(3))") == ["network 6"]


def test_another_version_of_ray_is_an_error(cluster: dict[str, str], tmp_path: Path) -> None:
    lines = outcome(
        tmp_path,
        f"""
        import ray

        ray.__version__ = "2.51.0"
        try:
            doubles.with_options(runner=RayRunner({cluster["direct"]!r}))(3)
        except PenstockError as error:
            say(type(error).__name__, error.what, "2.51.0" in error.because)
        """,
    )
    assert lines == ["RunnerError this process and the Ray cluster are of different versions True"]


def test_a_ray_started_for_a_run_listens_only_to_this_machine(tmp_path: Path) -> None:
    said = outcome(
        tmp_path,
        """
        import psutil

        def places():
            everybody = [psutil.Process(), *psutil.Process().children(recursive=True)]
            found = [each for one in everybody for each in one.net_connections(kind="inet")]
            return sorted({each.laddr.ip.removeprefix("::ffff:") for each in found if each.status == "LISTEN"})

        with RayRunner(num_cpus=1) as runner:
            say(runner(doubles)(2), places())
        say("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" in os.environ)
        """,
    )
    assert said == ["2 ['127.0.0.1']", "False"]
