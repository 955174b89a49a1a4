"""Loggers for users' code. All are children of `penstock`, so one handler there receives everything."""

from __future__ import annotations

import logging

from penstock.runtime import flow_run, task_run


def get_run_logger() -> logging.Logger:
    """Return the logger of the task or flow that is running.

    Its name is `penstock.task_runs.<task>` inside a task, `penstock.flow_runs.<flow>` inside a flow, and `penstock`
    elsewhere.
    """
    if task_run.run_count:
        return logging.getLogger(f"penstock.task_runs.{task_run.task_name}")
    if flow_run.run_count:
        return logging.getLogger(f"penstock.flow_runs.{flow_run.flow_name}")
    return logging.getLogger("penstock")
