"""What Dask keeps to itself and there is no public way to: all of it that is used stands here.

* Tasks of a graph as objects. Dask makes the same ones from tuples, which takes longer, and has no other way to say
  `_data_producer`, by which a task waits at the scheduler and not at a busy worker.
* The token of a graph, which Dask otherwise finds by hashing all that is in it.
* The loop of a client that never was connected: it counts as closed, and leaves its thread running.
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
    """The graph as `Client.get` takes it. Its keys are unique anyway."""
    return LLGExpr(tasks, _determ_token=os.urandom(16).hex())  # type: ignore[no-untyped-call]


def connected_client(distributed: Any, address: str, *, close_seconds: float, **options: Any) -> Any:
    """A client; raises what connecting raises, and leaves no thread behind then."""
    # Its __init__ starts a thread and connects; who has no hold of it cannot end the thread if that fails.
    client = distributed.Client.__new__(distributed.Client)
    try:
        client.__init__(address, **options)
    except BaseException:
        with contextlib.suppress(Exception):
            client.close(timeout=close_seconds)
            client._loop_runner.stop()
        raise
    return client
