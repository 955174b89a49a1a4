"""Loggers for users' code: named after what is running, so that one handler on `penstock` sees everything."""

from __future__ import annotations

import logging

from penstock.runtime import flow_run, task_run


def get_run_logger() -> logging.Logger:
    """The logger of the task or flow under way: `penstock.task_runs.<task>` or `penstock.flow_runs.<flow>`.

    Outside of both it is the logger `penstock`.
    """
    if task_run.run_count:
        return logging.getLogger(f"penstock.task_runs.{task_run.task_name}")
    if flow_run.run_count:
        return logging.getLogger(f"penstock.flow_runs.{flow_run.flow_name}")
    return logging.getLogger("penstock")
