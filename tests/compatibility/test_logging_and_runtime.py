"""Published snippets about logs and the active run, with only their imports changed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock import flow, get_run_logger, task
from penstock.runtime import flow_run, task_run


@task(name="log-example-task")
def logger_task() -> None:
    logger = get_run_logger()
    logger.info("from the task")
    logger.debug("in detail")


@flow(name="log-example-flow")
def logger_flow() -> None:
    logger = get_run_logger()
    logger.info("from the flow")
    logger.error("something is wrong")
    logger_task()


def test_a_run_logger_is_named_after_its_task_or_flow(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="penstock"):
        logger_flow()
    said = [(record.name, record.getMessage()) for record in caplog.records if "_runs." in record.name]
    assert said == [
        ("penstock.flow_runs.log-example-flow", "from the flow"),
        ("penstock.flow_runs.log-example-flow", "something is wrong"),
        ("penstock.task_runs.log-example-task", "from the task"),
    ]


@task
def talking_task() -> None:
    print("the task talks")


@task(log_prints=False)
def quiet_task() -> None:
    print("not for the log")


@flow(log_prints=True)
def talking_flow() -> None:
    print("the flow talks")
    talking_task()
    quiet_task()


def test_log_prints_applies_to_a_flow_and_its_tasks(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, logger="penstock"):
        talking_flow()
    logged = {record.getMessage() for record in caplog.records}
    assert {"the flow talks", "the task talks"} <= logged
    assert "not for the log" not in logged
    assert capsys.readouterr().out == "not for the log\n"


def test_a_subflow_can_set_log_prints_itself(caplog: pytest.LogCaptureFixture) -> None:
    @flow(log_prints=True)
    def inner() -> None:
        talking_task()

    @flow
    def outer() -> None:
        inner()

    with caplog.at_level(logging.INFO, logger="penstock"):
        outer()
    assert "the task talks" in {record.getMessage() for record in caplog.records}


def test_a_subflow_inherits_log_prints_and_can_turn_it_off(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    @task
    def say(text: str) -> None:
        print(text)

    @flow
    def inheriting() -> None:
        say("inherited")

    @flow(log_prints=False)
    def opting_out() -> None:
        print("itself")
        say("opted out")

    @flow(log_prints=True)
    def outer() -> None:
        inheriting()
        opting_out()

    with caplog.at_level(logging.INFO, logger="penstock"):
        outer()
    assert {record.getMessage() for record in caplog.records} == {"inherited"}
    assert sorted(capsys.readouterr().out.splitlines()) == ["itself", "opted out"]


@flow
def moody(name: str) -> tuple[str, str, int]:
    return flow_run.flow_name, flow_run.parameters["name"], flow_run.run_count


def test_a_flow_knows_its_run() -> None:
    assert moody("marvin") == ("moody", "marvin", 1)


def test_a_task_knows_its_run_and_its_flow() -> None:
    @task(tags=["heavy"])
    def inspect(x: int) -> tuple:
        return task_run.task_name, task_run.parameters["x"], task_run.run_count, list(task_run.tags), flow_run.id

    @flow
    def outer() -> tuple:
        return inspect(5)

    run = outer.run()
    assert run.result() == ("inspect", 5, 1, ["heavy"], run.id)


def test_names_are_none_outside_runs() -> None:
    assert flow_run.id is None
    assert flow_run.name is None
    assert task_run.name is None
    assert flow_run.run_count == 0


@pytest.mark.slow
def test_logs_and_prints_of_a_script_are_shown_by_default(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(
        "import logging\nfrom penstock import flow, get_run_logger, task\n\n\n"
        "@task(log_prints=True)\ndef talk() -> None:\n    print('from a print')\n"
        "    get_run_logger().info('from a task')\n    logging.getLogger('mine').info('from mine')\n\n\n"
        "@flow\ndef chat() -> None:\n    talk()\n\n\nif __name__ == '__main__':\n    chat()\n"
    )
    for runner in ("threads", "processes"):
        environment = {**os.environ, "PENSTOCK_RUNNER": runner, "PENSTOCK_EXTRA_LOGGERS": "mine"}
        command = [sys.executable, str(script)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110, check=True)
        said = done.stderr.splitlines()
        for line in ("INFO penstock.task_runs.talk: from a print", "INFO penstock.task_runs.talk: from a task"):
            assert said.count(line) == 1
        assert said.count("INFO mine: from mine") == 1
