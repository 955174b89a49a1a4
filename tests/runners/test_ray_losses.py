"""What users see, and what becomes of a run, when processes and machines of a Ray die. Each test runs a program."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from penstock.errors import RunnerError
from tests.servers.rays import MACHINES, PATIENCE, outcome, started

pytestmark = [pytest.mark.slow, pytest.mark.needs("ray", "grpc", "psutil")]

TWO_MACHINES = MACHINES + textwrap.dedent("""
        cluster, far = two_machines()

        @task(resources={"far": 1})
        def distant(n, folder):
            Path(folder, f"began {n}").touch()
            while not Path(folder, "go").exists():
                time.sleep(0.01)
            return n

        def until(*names):
            while not all(Path(name).exists() for name in names):
                time.sleep(0.01)
""")


@pytest.fixture(autouse=True)
def settings(ray_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))


@pytest.mark.in_ci
def test_calls_whose_only_machine_died_fail_after_the_timeout_and_others_run(tmp_path: Path) -> None:
    lines = outcome(
        tmp_path,
        TWO_MACHINES
        + textwrap.dedent("""
        @flow(runner=RayRunner(worker_timeout=3))
        def loses():
            calls = [distant(n, os.getcwd()) for n in range(3)]
            double(0).wait()
            until("began 0")
            cluster.remove_node(far, allow_graceful=False)
            return [each.result(raise_on_failure=False) for each in calls], double(4).result()

        failures, other = loses()
        say(other)
        for each in failures:
            say(type(each).__name__, "no worker can ever run" in each.what, "far 1" in each.because)
        ray.shutdown()
        cluster.shutdown()
        """),
    )
    assert lines == ["8", *["RunnerError True True"] * 3]


@pytest.mark.in_ci
def test_a_machine_that_comes_back_in_time_runs_the_calls_that_waited_for_it(tmp_path: Path) -> None:
    lines = outcome(
        tmp_path,
        TWO_MACHINES
        + textwrap.dedent(f"""
        @flow(runner=RayRunner(worker_timeout={PATIENCE}))
        def survives():
            calls = [distant(n, os.getcwd()) for n in range(3)]
            double(0).wait()
            until("began 0")
            cluster.remove_node(far, allow_graceful=False)
            while any(node["Alive"] and "far" in node["Resources"] for node in ray.nodes()):
                time.sleep(0.05)
            Path("go").touch()
            cluster.add_node(num_cpus=1, resources={{"far": 1}})
            return [each.result() for each in calls]

        say(survives())
        ray.shutdown()
        cluster.shutdown()
        """),
    )
    assert lines == ["[0, 1, 2]"]


def test_a_lost_machine_counts_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.runners.ray import capacity as ray_capacity

    now = 0.0
    monkeypatch.setattr(ray_capacity.time, "monotonic", lambda: now)
    head = {"NodeID": "head", "Alive": True, "Resources": {"memory": 1e9}}
    far = {"NodeID": "far", "Alive": True, "Resources": {"CPU": 4.0, "far": 1.0}}
    nodes = ray_capacity.Nodes([head, far], patience=60.0)
    for now in (50.0, 110.0):
        nodes.update([head, far | {"Alive": now < 60}])
        nodes.check_fits("call", {"slots": 1.0, "far": 1.0})
        assert nodes.capacity["far"] == 1.0
    assert nodes.capacity["workers"] == 1.0  # at least 1: waiting calls are only considered when there is room
    now = 111.0
    nodes.update([head])
    with pytest.raises(RunnerError, match=r"cpu 1 \(the most is 0\), far 1 \(the most is 0\)"):
        nodes.check_fits("call", {"slots": 1.0, "far": 1.0})
    with pytest.raises(RunnerError, match=r"cpu 1 \(the most is 0\)"):
        nodes.check_fits("call", {"slots": 1.0})  # a call without requirements takes a processor
    assert nodes.capacity["far"] == 0.0


DIES = """
        import logging, signal

        @task
        def dies(path):
            print("about to die")
            if not Path(path).exists():
                Path(path).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return 1

        @task
        def talks(n):
            print("printed", n)
            print("to stderr", n, file=sys.stderr)
            os.system("echo by a child")
            logging.getLogger("mine").warning("warned %s", n)
            print("without an end", end="")
            return n

        @flow
        def speaks():
            return [dies(str(Path("died").resolve())), *[talks(n) for n in range(2)]]
"""


def test_prints_and_logs_of_tasks_name_flow_and_task_and_a_death_is_one_line(tmp_path: Path) -> None:
    with started(tmp_path, DIES + "        say(speaks.with_options(runner=RayRunner(num_cpus=2))())") as program:
        out, err = program.communicate(timeout=PATIENCE)
    assert program.returncode == 0, err
    lines = out.splitlines()
    assert "> [1, 0, 1]" in lines
    talked = ["printed 0", "printed 1", "by a child", "by a child", "without an end", "without an end"]
    assert sorted(line for line in lines if "talks" in line) == sorted(f"(speaks/talks) {each}" for each in talked)
    assert lines.count("(speaks/dies) about to die") in (1, 2)  # the first can be lost with its process
    said = sorted(line for line in err.splitlines() if "talks" in line)
    assert said == [f"(speaks/talks) {each} {n}" for each in ("to stderr", "warned") for n in range(2)]
    [warning] = [line for line in err.splitlines() if "talks" not in line]
    assert warning.startswith("WARNING penstock.runners.ray.runner: a worker was lost under speaks/dies: ")


@pytest.mark.in_ci
def test_log_to_driver_decides_whether_prints_are_shown(tmp_path: Path) -> None:
    program = DIES + "        say(speaks.with_options(runner=RayRunner(num_cpus=2, log_to_driver=False))())"
    with started(tmp_path, program) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert out.splitlines() == ["> [1, 0, 1]"], err
    assert "talks" not in err


def test_the_death_of_the_process_that_connects_to_ray_is_one_error(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import psutil

        @task
        def spins(path):
            Path(path).touch()
            while True:
                time.sleep(0.01)

        def kill_raylet():
            while not Path("mark").exists():
                time.sleep(0.01)
            for child in psutil.Process().children(recursive=True):
                if child.name() == "raylet":
                    child.kill()

        @flow(runner=RayRunner(num_cpus=1))
        def loses():
            return spins("mark")

        threading.Thread(target=kill_raylet, daemon=True).start()
        try:
            loses()
        except PenstockError as error:
            say(type(error).__name__, "-", error.what, "-", error.because)
    """)
    with started(tmp_path, program) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert out.splitlines() == ["> RunnerError - the Ray cluster is lost - its processes on this machine died"], err
    assert "state-dump" not in err


def test_rays_own_warnings_go_to_the_debug_log(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    from penstock.runners.ray.prints import Prints

    prints = Prints()
    caplog.set_level("DEBUG", "penstock")
    prints.show({"pid": "raylet", "is_err": False, "lines": ["Raylet is terminated.", "[state-dump]"]})
    inner = "[2026-11-28 02:44:23,325 E 4839 5016] core_worker.cc:609: :info_message: Attempting to recover"
    prints.show({"pid": 7, "is_err": True, "task_name": "f/t", "lines": [inner, "mine"]})
    assert capsys.readouterr() == ("", "(f/t) mine\n")
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
