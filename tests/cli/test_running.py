"""`run`, `resume` and `plan`."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

DAY = ["--days", "2024-01-01"]


def until(condition, seconds: float = 100.0) -> None:
    """Wait until another process has done something."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


# -- run ----------------------------------------------------------------------------------------------------------


def test_run_prints_the_value_the_reuse_and_the_id(flows: Path, call) -> None:
    first = call("run", "pipelines.py:weekly", *DAY, "--days", "2024-01-02", "--n", "3")
    assert first.exit_code == 0, first.output
    assert re.fullmatch(r"9\nreused 0, ran 3, [\d.]+ s  \(run \S+\)\n", first.stdout)
    again = call("run", "pipelines.py:weekly", *DAY, "--days", "2024-01-02", "--n", "3")
    assert "reused 3, ran 0" in again.stdout


def test_calls_that_a_failed_run_never_decided_are_not_shown_as_reused(write, call) -> None:
    text = """
        from penstock import INPUTS, flow, task

        @task(cache_policy=INPUTS)
        def one(x):
            return x

        @flow
        def ends():
            one(1), one(2)
            raise ValueError("early")
    """
    write("ends.py", text)
    assert "failed: reused 0, ran 0, not run 2, " in call("run", "ends.py").output
    assert re.search(r"  one +2\n", call("show").output.replace("task  not run", ""))
    heading, row = call("runs").output.splitlines()
    assert heading.split()[-5:] == ["reused", "ran", "failed", "not", "run"]
    assert row.split()[-4:] == ["0", "0", "0", "2"]


PARTS = """
    from pathlib import Path

    from penstock import INPUTS, flow, task

    @task(cache_policy=INPUTS)
    def features(day: int) -> dict[str, int]:
        return {"revenue": day}

    @flow
    def parts() -> list[int]:
        return [features(day)["revenue"] for day in range(3)]

    @flow
    def decides() -> int:
        revenue = features(7)["revenue"]
        return features(revenue + 1) if revenue > 3 else revenue

    @flow
    def missing() -> int:
        return features(7)["cost"]

    @task
    def broken() -> dict[str, int]:
        raise ValueError("no data")

    @flow
    def below() -> int:
        return features(broken()["day"])
"""


def test_a_part_of_a_result_counts_neither_as_run_nor_as_reused(write, call) -> None:
    write("parts.py", PARTS)
    cold, warm = call("run", "parts.py:parts"), call("run", "parts.py:parts")
    assert "reused 0, ran 3, " in cold.stdout
    assert "parts: features 3/3\n" in cold.stderr
    assert "reused 3, ran 0, " in warm.stdout
    assert "item" not in cold.stderr + warm.stderr + call("show").stdout
    assert json.loads(call("show", "--json").stdout)["run"]["tasks"].keys() == {"features"}
    plan = call("plan", "parts.py:parts", "--exit-code")
    assert (plan.exit_code, plan.stdout.splitlines()[0]) == (0, "parts: 3 hit")
    assert "item" not in plan.stdout
    assert call("why", "parts.py:parts").stdout == "parts: every result is stored\n"
    assert "item" not in call("why", "parts.py:parts", "other").stderr


def test_a_part_of_a_result_that_fails_counts_as_failed(write, call) -> None:
    write("parts.py", PARTS)
    assert "failed: reused 0, ran 1, failed 1, " in call("run", "parts.py:missing").stderr


def test_a_part_of_a_result_is_no_dependent_call(write, call) -> None:
    write("parts.py", PARTS)
    assert "\n1 dependent call did not run\n" in call("run", "parts.py:below").stderr
    assert "1 dependent call did not run\n" in call("show").stdout


def test_a_plan_goes_on_past_a_decision_by_a_part_of_a_hit(write, call) -> None:
    write("parts.py", PARTS)
    cold = call("plan", "parts.py:decides", "--exit-code")
    assert (cold.exit_code, "(features): the flow needs a value" in cold.stdout) == (4, True)
    assert call("run", "parts.py:decides").exit_code == 0
    warm = call("plan", "parts.py:decides", "--exit-code")
    assert (warm.exit_code, warm.stdout.splitlines()[0]) == (0, "decides: 2 hit")


@pytest.mark.parametrize("recorded", [True, False])
def test_a_failed_run_that_was_not_recorded_is_not_said_to_be_resumable(recorded: bool, flows: Path, call) -> None:
    (flows.parent / "file").touch()
    store = "./store" if recorded else "./file/store"
    said = call("run", "pipelines.py:careless", "--store", store).stderr
    assert ("continue with: penstock resume" in said) == recorded
    assert ("it cannot be resumed: nothing was recorded of it" in said) != recorded


def test_a_failed_run_says_why_it_cannot_be_resumed(write, call) -> None:
    text = """
        from penstock import flow

        @flow
        def ends(x=(i for i in ())):
            raise ValueError
    """
    write("unsendable.py", text)
    assert "it cannot be resumed: its parameters" in call("run", "unsendable.py").stderr


def test_refresh_runs_tasks_that_have_results(flows: Path, call) -> None:
    call("run", "pipelines.py:weekly", *DAY)
    assert "reused 0, ran 2" in call("run", "pipelines.py:weekly", *DAY, "--refresh").stdout


@pytest.mark.slow
def test_json_output_is_one_document_whatever_the_flow_prints(flows: Path, penstock) -> None:
    (flows.parent / "go").touch()
    done = penstock("run", "pipelines.py:steps", "--json", "--runner", "processes?workers=1")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert sorted(document) == sorted(
        ["schema", "run", "flow", "state", "seconds", "counts", "tasks", "stats", "result", "result_repr", "error"]
    )
    assert document["schema"] == "penstock/run/1"
    assert document["result"] == [0, 1]
    assert document["counts"]["executed"] == 2
    assert "a flow may print" in done.stderr


def test_a_result_that_is_not_json_is_only_shown(write, call) -> None:
    write("odd_results.py", "from penstock import flow\n\n@flow\ndef odd():\n    return {1, 2}, object\n")
    document = json.loads(call("run", "odd_results.py", "--json").stdout)
    assert document["result"] is None
    assert "object" in document["result_repr"]


def test_a_failed_task_exits_with_1_and_shows_only_the_users_frames(flows: Path, call) -> None:
    (flows.parent / "broken").touch()
    done = call("run", "pipelines.py:shaky")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "task fragile failed (node 1, attempt 1)" in done.stderr
    assert "in divide" in done.stderr
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "execution.py" not in done.stderr
    assert re.search(r"continue with: penstock resume \S+\n", done.stderr)
    whole = call("--debug", "run", "pipelines.py:shaky")
    assert "execution.py" in whole.stderr


@pytest.mark.slow
def test_a_failure_in_a_worker_process_shows_the_same_frames(flows: Path, penstock) -> None:
    (flows.parent / "broken").touch()
    done = penstock("run", "pipelines.py:shaky", "--runner", "processes?workers=1")
    assert done.returncode == 1
    assert "in divide" in done.stderr
    assert "process_main.py" not in done.stderr


def test_a_failed_run_is_one_json_document_too(flows: Path, call) -> None:
    (flows.parent / "broken").touch()
    done = call("run", "pipelines.py:shaky", "--json")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert document["state"] == "failed"
    assert document["error"]["type"] == "ZeroDivisionError"
    assert document["counts"]["failed"] == 1


def test_an_exception_of_the_flow_function_exits_with_1(flows: Path, call) -> None:
    for command in ("run", "plan"):
        done = call(command, "pipelines.py:careless")
        assert done.exit_code == 1
        assert "LookupError: no such thing" in done.stderr
        assert "flows.py" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "pipelines.py:weekly", "--dayz", "1"], "did you mean --days?"),
        (["run", "pipelines.py:weekly", "--days", "1"], "the parameter days"),
        (["run", "pipelines.py:weekly"], "needs the parameter days"),
        (["run", "pipelines.py:weekly", "2024-01-01"], "unexpected argument '2024-01-01'"),
        (["run", "pipelines.py:weakly"], "did you mean pipelines.py:weekly?"),
        (["run", "pipelines.py:weekly", *DAY, "--runner", "thread"], "there is no runner"),
        (["run", "pipelines.py:weekly", *DAY, "--store", "ftp://x"], "ftp://"),
        (["run", "pipelines.py:weekly", *DAY, "--profile", "none"], "there is no profile none"),
        (["run"], "Missing argument"),
        (["runn"], "runn"),
        (["runs", "--limit", "0"], "--limit"),
        (["resume", "nothing"], "there is no run nothing"),
        (["show", "nothing"], "there is no run nothing"),
        (["plan", "nothing.py:f"], "there is no file nothing.py"),
        (["cache", "rm"], "not clear what to remove"),
        (["cache", "show", "abc"], "no result with the key abc"),
    ],
)
def test_errors_that_the_user_must_fix_exit_with_2(flows: Path, call, words: list[str], said: str) -> None:
    done = call(*words)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_unreachable_services_exit_with_3(flows: Path, call) -> None:
    blocked = flows.parent / "blocked"
    blocked.write_text("a file, not a folder")
    done = call("run", "pipelines.py:weekly", *DAY, "--store", str(blocked / "store"))
    assert done.exit_code == 3, done.output
    assert "[store" in done.stderr


def test_an_error_is_a_json_document_on_request(flows: Path, call) -> None:
    done = call("run", "pipelines.py:weakly", "--json")
    assert done.exit_code == 2
    document = json.loads(done.stdout)
    assert document["schema"] == "penstock/error/1"
    assert document["error"]["code"] == "usage.flow-import"


BOUND = """
    from penstock import INPUTS, flow, task

    @task(cache_policy=INPUTS)
    def one() -> int:
        return 1

    @flow(runner="threads?workers=3", result_storage="in_code")
    def f() -> int:
        return one()
"""


def test_a_flag_that_contradicts_the_decorator_is_refused(write, call, folder: Path) -> None:
    write("bound.py", BOUND)
    for flags in (["--runner", "threads?workers=2"], ["--store", "typed"]):
        done = call("run", "bound.py", *flags)
        assert done.exit_code == 2
        assert f"{flags[0]} cannot be used with f" in done.stderr
    assert not (folder / "typed").exists()
    assert not (folder / "in_code").exists()


def test_a_flag_that_agrees_with_the_decorator_is_accepted(write, call, folder: Path) -> None:
    write("bound.py", BOUND)
    done = call("run", "bound.py", "--runner", "threads?workers=3", "--store", "in_code")
    assert done.exit_code == 0, done.output
    assert "ThreadRunner(workers=3" in done.stderr
    assert (folder / "in_code" / "results").is_dir()


def test_settings_flags_can_precede_the_command(flows: Path, call, folder: Path) -> None:
    done = call("--store", "elsewhere", "run", "pipelines.py:weekly", *DAY)
    assert done.exit_code == 0, done.output
    assert (folder / "elsewhere" / "results").is_dir()


def test_quiet_hides_the_progress(flows: Path, call) -> None:
    assert call("run", "pipelines.py:weekly", *DAY, "--quiet").stderr == ""


def test_the_log_level_decides_which_task_logs_are_shown(write, call) -> None:
    write(
        "logging_flows.py",
        """
        from penstock import flow, get_run_logger, task

        @task
        def talk() -> None:
            get_run_logger().info("quite usual")
            get_run_logger().error("rather bad")

        @flow
        def f() -> None:
            talk()
        """,
    )
    usual = call("run", "logging_flows.py").stderr
    assert "INFO penstock.task_runs.talk: quite usual" in usual
    assert "rather bad" in usual
    strict = call("run", "logging_flows.py", env={"PENSTOCK_LOG_LEVEL": "ERROR"}).stderr
    assert "quite usual" not in strict
    assert "rather bad" in strict


# -- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_script_an_import_and_the_command_line_compute_the_same_keys(flows: Path, start, penstock) -> None:
    script = start("pipelines.py")
    assert script.communicate(timeout=60)[0] == "2\n"
    by_command = penstock("run", "pipelines.py:weekly", *DAY, "--json")
    assert json.loads(by_command.stdout)["counts"]["executed"] == 0
    by_module = penstock("run", "pipelines:weekly", *DAY, "--json", "--runner", "processes?workers=1")
    assert json.loads(by_module.stdout)["counts"]["executed"] == 0
    program = "import datetime, pipelines; print(pipelines.weekly.run([datetime.date(2024, 1, 1)]).counts['executed'])"
    imported = start("-c", program)
    assert imported.communicate(timeout=60)[0] == "0\n"


# -- plan -----------------------------------------------------------------------------------------------------------


def test_a_plan_lists_what_would_run_and_runs_nothing(flows: Path, call) -> None:
    before = call("plan", "pipelines.py:weekly", *DAY)
    assert before.exit_code == 0
    assert "weekly: 2 miss" in before.stdout
    assert call("plan", "pipelines.py:weekly", *DAY, "--exit-code").exit_code == 4
    call("run", "pipelines.py:weekly", *DAY)
    after = call("plan", "pipelines.py:weekly", *DAY, "--exit-code")
    assert after.exit_code == 0
    assert "1 hit, 1 pruned" in after.stdout
    assert call("plan", "pipelines.py:weekly", *DAY, "--exit-code", "--refresh").exit_code == 4


def test_a_plan_as_json(flows: Path, call) -> None:
    document = json.loads(call("plan", "pipelines.py:weekly", *DAY, "--json").stdout)
    assert document["schema"] == "penstock/plan/1"
    fields = ["schema", "work", "flow", "counts", "stopped_at", "rounds", "lookups", "changes", "nodes"]
    assert sorted(document) == sorted(fields)
    assert document["work"] is True
    assert [node["task"] for node in document["nodes"]] == ["features", "train"]


# -- resume -----------------------------------------------------------------------------------------------------------


def test_a_failed_run_is_resumed_by_its_id(flows: Path, call) -> None:
    (flows.parent / "broken").touch()
    call("run", "pipelines.py:shaky", "--n", "5")
    (flows.parent / "broken").unlink()
    done = call("resume", "last")
    assert done.exit_code == 0, done.output
    assert "reused 1, ran 1" in done.stdout
    document = json.loads(call("runs", "--json").stdout)
    assert [(run["state"], run["attempts"], run["parameters"]) for run in document["runs"]] == [
        ("completed", 2, {"n": "5"})
    ]


def test_the_resume_hint_names_a_store_set_by_code_or_flags(flows: Path, call) -> None:
    (flows.parent / "broken").touch()
    done = call("run", "pipelines.py:shaky", "--store", "aside")
    hint = re.search(r"continue with: penstock (.*)\n", done.stderr)
    assert hint is not None
    (flows.parent / "broken").unlink()
    assert call(*hint[1].split()).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["threads?workers=1", "processes?workers=1"])
@pytest.mark.parametrize("whole_group", [False, True])
def test_ctrl_c_exits_with_130_and_the_run_can_be_resumed(
    flows: Path, start, penstock, runner: str, whole_group: bool
) -> None:
    folder = flows.parent
    process = start("-m", "penstock", "run", "pipelines.py:steps", "--runner", runner)
    until((folder / "started-1").exists)
    if whole_group:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    else:
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    hint = re.search(r"interrupted; continue with: penstock resume (\S+)", err)
    assert hint is not None, err
    (record,) = json.loads(penstock("runs", "--json").stdout)["runs"]
    assert (record["id"], record["state"]) == (hint[1], "cancelled")
    (folder / "go").touch()
    done = penstock("resume", hint[1], "--json", "--runner", runner)
    document = json.loads(done.stdout)
    assert document["result"] == [0, 1]
    assert (document["counts"]["hit"], document["counts"]["executed"]) == (1, 1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whether a process is gone for certain")
def test_a_killed_run_is_reported_and_can_be_resumed(flows: Path, start, penstock) -> None:
    folder = flows.parent
    process = start("-m", "penstock", "run", "pipelines.py:steps", "--runner", "threads?workers=1")
    until((folder / "started-1").exists)
    assert "running" in penstock("runs").stdout
    refused = penstock("resume", "last")
    assert refused.returncode == 2
    assert "still running" in refused.stderr
    process.kill()
    process.communicate(timeout=60)
    (record,) = json.loads(penstock("runs", "--json").stdout)["runs"]
    assert record["state"] == "killed"
    (folder / "go").touch()
    done = penstock("resume", record["id"][-8:], "--json")
    assert json.loads(done.stdout)["counts"]["executed"] == 1
    assert json.loads(penstock("show", "last", "--json").stdout)["run"]["state"] == "completed"


# -- first steps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "plan", "why"])
def test_help_lists_the_parameters_of_the_named_flow(flows: Path, call, command: str) -> None:
    done = call(command, "pipelines.py:weekly", "--help")
    assert done.exit_code == 0
    assert "Usage:" in done.stdout
    assert re.search(
        r"Parameters of weekly:\n  --days +list\[.*date\]  \[required\]\n  --n +int  \[default: 2\]\n", done.stdout
    )


def test_help_explains_why_parameters_are_unknown(flows: Path, call) -> None:
    done = call("run", "missing.py:weekly", "--help")
    assert (done.exit_code, "there is no file missing.py" in done.stdout) == (0, True)


def test_a_completed_run_cannot_be_resumed(flows: Path, call) -> None:
    assert call("run", "pipelines.py:weekly", *DAY).exit_code == 0
    done = call("resume", "last")
    assert (done.exit_code, "is completed" in done.stderr) == (2, True)


def test_show_without_an_id_shows_the_last_run(flows: Path, call) -> None:
    call("run", "pipelines.py:weekly", *DAY)
    assert call("show").stdout == call("show", "last").stdout != ""


def test_a_script_that_runs_its_flow_on_import_is_reported(flows: Path, call) -> None:
    flows.with_name("eager.py").write_text(
        "from penstock import INPUTS, flow, task\n\n\n@task(cache_policy=INPUTS)\ndef one() -> int:\n    return 1\n\n\n"
        "@flow\ndef eager() -> int:\n    return one()\n\n\neager()\n"
    )
    done = call("why", "eager.py:eager")
    assert "importing eager.py ran the flow eager" in done.stderr
    assert 'if __name__ == "__main__":' in done.stderr


def test_help_names_the_runners(call) -> None:
    assert "dask+tcp://HOST:PORT, ray://HOST:PORT" in " ".join(call("run", "--help").stdout.split())


def test_a_run_continues_after_a_failure_on_request(write, call) -> None:
    write(
        "keeps.py",
        """
        from penstock import INPUTS, flow, task
        from penstock.runners import ThreadRunner

        @task
        def breaks():
            raise ValueError("broken")

        @task(cache_policy=INPUTS)
        def kept(x):
            return x

        @flow(runner=ThreadRunner(1))
        def several():
            first, others = breaks(), [kept(x) for x in range(3)]
            return first.result(), others
        """,
    )
    assert call("run", "keeps.py:several", "--keep-going").exit_code == 1
    planned = json.loads(call("plan", "keeps.py:several", "--json").stdout)
    assert planned["counts"]["hit"] == 3


def test_help_shows_choices_and_how_to_pass_a_parameter_named_like_an_option(write, call) -> None:
    write(
        "asking.py",
        """
        import enum
        from typing import Literal

        from penstock import flow

        class Colour(enum.Enum):
            RED = "r"
            BLUE = "b"

        @flow
        def asks(runner: str, json: bool = False, colour: Colour = Colour.RED, how: Literal["fast", "slow"] = "fast"):
            return [runner, json, colour.name, how]
        """,
    )
    lines = [" ".join(line.split()) for line in call("run", "asking.py", "--help").stdout.splitlines()]
    assert lines[-4:] == [
        "-p runner=VALUE str [required]",
        "-p json=VALUE bool [default: False]",
        "--colour RED|BLUE [default: RED]",
        "--how fast|slow [default: 'fast']",
    ]
    assert "hint: add -p runner=VALUE" in call("run", "asking.py", "--runner", "threads").stderr
    done = call("run", "asking.py", "-p", "runner=mine", "-p", "json=true", "--runner", "threads?workers=1", "-q")
    assert done.stdout.splitlines()[0] == "['mine', True, 'RED', 'fast']"


@pytest.mark.parametrize("in_flow", ["total(1, 2, 3)", "total(object())", "total(1, wait_for=[3])"])
def test_an_error_about_arguments_names_the_line_of_the_call(write, call, in_flow: str) -> None:
    file = write(
        "lines.py",
        f"""
        from penstock import INPUTS, flow, task

        @task(cache_policy=INPUTS)
        def total(x):
            return x

        @flow
        def calls():
            return {in_flow}
        """,
    )
    done = call("run", "lines.py")
    assert done.exit_code == 2
    assert f"  at: {file}:10\n" in done.stderr


def test_resume_uses_the_runner_of_the_run_and_says_so(flows: Path, call) -> None:
    (flows.parent / "broken").touch()
    done = call("run", "pipelines.py:shaky", "--runner", "threads?workers=1", "--locks", "memory")
    assert "--runner 'threads?workers=1' --locks memory\n" in done.stderr
    (flows.parent / "broken").unlink()
    done = call("resume", "last")
    assert (done.exit_code, "continues on threads?workers=1" in done.stderr) == (0, True)
    (shown,) = json.loads(call("runs", "--json").stdout)["runs"]
    assert shown["runner"].startswith("ThreadRunner(workers=1")


def test_resume_uses_another_runner_if_its_flag_says_so(flows: Path, call) -> None:
    (flows.parent / "broken").touch()
    call("run", "pipelines.py:shaky", "--runner", "threads?workers=1")
    (flows.parent / "broken").unlink()
    assert call("resume", "last", "--runner", "threads?workers=2").exit_code == 0
    (shown,) = json.loads(call("runs", "--json").stdout)["runs"]
    assert shown["runner"].startswith("ThreadRunner(workers=2")


@pytest.mark.parametrize(
    "command", [["cache", "ls"], ["cache", "du"], ["runs"], ["show"], ["limits", "ls"], ["cache", "gc"]]
)
def test_a_mistyped_store_is_not_taken_for_an_empty_one(flows: Path, call, command: list[str]) -> None:
    assert call("run", "pipelines.py:shaky", "--store", "results").exit_code == 0
    done = call(*command, "--store", "result")
    assert done.exit_code == 2
    assert f"did you mean {flows.parent / 'results'}?" in done.stderr
    assert not (flows.parent / "result").exists()
    assert call(*command, "--store", "results").exit_code == 0
