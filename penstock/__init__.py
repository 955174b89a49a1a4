"""Penstock runs flows on Dask, Ray or the local machine and never computes the same thing twice.

Layers, from the top; imports only point downwards:

    cli
    reports | control | testing
    flows  tasks
    immediate
    active_runs
    runs  previews
    explanations
    environments | driver
    runners
    worker
    transactions | catalog
    limits | journals | locks
    storage | graph
    digests | settings | redis | logs | plugins
    events | input_files | coroutines
    objects | process
    errors | clocks | checksums | runtime | imported | ownership
"""

__version__ = "0.1.0"

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.digests.python import register_digest
    from penstock.driver.retries import exponential_backoff
    from penstock.environments import Environment, stored
    from penstock.flows.decorator import flow
    from penstock.flows.definition import Flow
    from penstock.graph.futures import Future
    from penstock.graph.key_functions import TaskRunContext, task_input_hash
    from penstock.graph.plans import Plan
    from penstock.graph.policies import (
        DEFAULT,
        FLOW_PARAMETERS,
        INPUTS,
        NO_CACHE,
        RUN_ID,
        TASK_CODE,
        TASK_SOURCE,
        CacheKey,
        CacheKeyFnPolicy,
        CachePolicy,
        Files,
    )
    from penstock.logs.run_logger import get_run_logger
    from penstock.runs import Run
    from penstock.settings import Settings, load_settings
    from penstock.storage.results.stored import StoredResult
    from penstock.tasks import Task, task, unmapped, wait
    from penstock.transactions import IsolationLevel

__all__ = [
    "DEFAULT",
    "FLOW_PARAMETERS",
    "INPUTS",
    "NO_CACHE",
    "RUN_ID",
    "TASK_CODE",
    "TASK_SOURCE",
    "CacheKey",
    "CacheKeyFnPolicy",
    "CachePolicy",
    "Environment",
    "Files",
    "Flow",
    "Future",
    "IsolationLevel",
    "Plan",
    "Run",
    "Settings",
    "StoredResult",
    "Task",
    "TaskRunContext",
    "exponential_backoff",
    "flow",
    "get_run_logger",
    "load_settings",
    "register_digest",
    "stored",
    "task",
    "task_input_hash",
    "unmapped",
    "wait",
]

_HOMES = {
    "CacheKey": "penstock.graph.policies",
    "CacheKeyFnPolicy": "penstock.graph.policies",
    "CachePolicy": "penstock.graph.policies",
    "DEFAULT": "penstock.graph.policies",
    "Environment": "penstock.environments",
    "FLOW_PARAMETERS": "penstock.graph.policies",
    "Files": "penstock.graph.policies",
    "Flow": "penstock.flows.definition",
    "Future": "penstock.graph.futures",
    "INPUTS": "penstock.graph.policies",
    "IsolationLevel": "penstock.transactions",
    "NO_CACHE": "penstock.graph.policies",
    "Plan": "penstock.graph.plans",
    "RUN_ID": "penstock.graph.policies",
    "Run": "penstock.runs",
    "Settings": "penstock.settings",
    "TASK_CODE": "penstock.graph.policies",
    "TASK_SOURCE": "penstock.graph.policies",
    "StoredResult": "penstock.storage.results.stored",
    "Task": "penstock.tasks",
    "TaskRunContext": "penstock.graph.key_functions",
    "exponential_backoff": "penstock.driver.retries",
    "flow": "penstock.flows.decorator",
    "get_run_logger": "penstock.logs.run_logger",
    "load_settings": "penstock.settings",
    "register_digest": "penstock.digests.python",
    "stored": "penstock.environments",
    "task": "penstock.tasks",
    "task_input_hash": "penstock.graph.key_functions",
    "unmapped": "penstock.tasks",
    "wait": "penstock.tasks",
}

_MODULES = frozenset({"errors", "locks", "runners", "runtime", "settings", "transactions"})
"""Modules available as attributes after `import penstock`, such as `penstock.runtime.flow_run`."""


def __getattr__(name: str) -> Any:
    # Names are loaded on first use: `penstock --version`, for example, needs none of them.
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
