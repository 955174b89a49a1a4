"""All uses of Dask's private interfaces, where no public one exists.

* Tasks of a graph as objects. Dask creates them from tuples, which takes longer, and only objects can have
  `_data_producer`, which makes a task wait at the scheduler instead of at a busy worker.
* The token of a graph, which Dask otherwise computes by hashing the whole graph.
* The loop of a client that failed to connect, which Dask leaves running.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Hashable, Mapping
from typing import Any

from dask import LLGExpr  # type: ignore[attr-defined]  # which it exports, and does not say so
from dask._task_spec import DataNode, Task, TaskRef

__all__ = ["DataNode", "Task", "TaskRef", "as_graph", "connected_client"]


def as_graph(tasks: Mapping[Any, Hashable]) -> Any:
    """Return a graph for `Client.get`. Its token is random, because its keys are unique."""
    return LLGExpr(tasks, _determ_token=os.urandom(16).hex())  # type: ignore[no-untyped-call]


def connected_client(distributed: Any, address: str, *, close_seconds: float, **options: Any) -> Any:
    """Return a connected client. Raises what connecting raises, and then leaves no thread behind."""
    # `__init__` starts a thread and connects. If that fails, the thread can only be ended with the object at hand.
    client = distributed.Client.__new__(distributed.Client)
    try:
        client.__init__(address, **options)
    except BaseException:
        with contextlib.suppress(Exception):
            client.close(timeout=close_seconds)
            client._loop_runner.stop()
        raise
    return client
