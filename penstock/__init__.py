"""Penstock runs flows on Dask, Ray or the local machine and never computes the same thing twice.

Layers, from the top; imports only go down:

    cli                              the command line
    testing                          conformance suites for implementations, fakes
    flows  tasks                     @flow and @task as users see them
    runs  previews                   ties the parts together for one run; the same without running anything
    environments  journals           where a run happens, and its written trace
    runners                          engines, and the one loop that drives them
    transactions                     the one part that needs both storage and locks
    locks                            one execution is likely
    storage | graph                  one result is certain | what would be computed, under which key
    settings  events  clocks  logs  checksums  runtime  errors
"""

__version__ = "0.1.0"

from penstock.environments import Environment
from penstock.flows import Flow, flow
from penstock.graph.futures import Future
from penstock.graph.hashing import register_digest
from penstock.graph.keys import TaskRunContext, task_input_hash
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
from penstock.logs import get_run_logger
from penstock.runners.retries import exponential_backoff
from penstock.runs import Run
from penstock.settings import Settings, load_settings
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
    "Task",
    "TaskRunContext",
    "exponential_backoff",
    "flow",
    "get_run_logger",
    "load_settings",
    "register_digest",
    "task",
    "task_input_hash",
    "unmapped",
    "wait",
]
