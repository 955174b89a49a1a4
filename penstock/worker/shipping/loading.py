"""Marks the moments at which workers load the user's code, in which flows must not start further workers.

A worker imports the modules of the tasks and values that it gets. A module that runs a flow at its import would
otherwise start workers that import it, and so on without end.
"""

from __future__ import annotations

from contextvars import ContextVar

from penstock.errors import RunnerError
from penstock.runtime import having, own_variable
from penstock.storage.stores.base import Reach

_loading: ContextVar[bool] = own_variable("penstock_loading", False)


def loading() -> having:
    """Mark the block as one that loads the user's code in a worker."""
    return having(_loading, True)


def check_not_loading(flow: str, reach: Reach) -> None:
    """Raise `RunnerError` if a flow would start or use other processes while a worker loads code."""
    if reach != "process" and _loading.get():
        raise RunnerError(
            f"{flow} was called while a worker imported the module of a task or a value",
            because="each of its workers would import the module, too, and call it again, without end",
            hint='put the call of the flow under `if __name__ == "__main__":`',
        )
