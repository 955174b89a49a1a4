"""Information for running code about its run: `penstock.runtime.flow_run` and `penstock.runtime.task_run`."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

T = TypeVar("T")

OWN_VARIABLES: set[ContextVar[Any]] = set()
"""All context variables of Penstock: those that it does not carry from a caller to a task."""


def own_variable(name: str, default: T) -> ContextVar[T]:
    """Return a new context variable of Penstock, which is none of those that users set."""
    variable: ContextVar[T] = ContextVar(name, default=default)
    OWN_VARIABLES.add(variable)
    return variable


class having:
    """Context manager that sets a context variable during its block.

    A class, because contextlib's generators set the traceback of every exception that passes; one that is immutable,
    such as a frozen dataclass, would turn into another error.
    """

    __slots__ = ("_token", "_value", "_variable")

    def __init__(self, variable: ContextVar[Any], value: Any) -> None:
        self._variable = variable
        self._value = value

    def __enter__(self) -> None:
        self._token: Token[Any] = self._variable.set(self._value)

    def __exit__(self, *raised: object) -> None:
        self._variable.reset(self._token)


# Not comparable: contexts are compared at each call of a task, and parameters may be anything.
@dataclass(frozen=True, slots=True, eq=False)
class FlowRunInfo:
    """A run of a flow."""

    id: str = ""
    name: str = ""
    flow_name: str = ""
    run_count: int = 0
    """The number of the attempt, from 1; 0 outside of a run."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The arguments of the flow by name."""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class TaskRunInfo:
    """One call of a task."""

    id: str = ""
    name: str = ""
    task_name: str = ""
    run_count: int = 0
    """The number of the attempt, from 1; 0 outside of a task."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The arguments of the call by name."""
    tags: tuple[str, ...] = ()
    flow_run_id: str = ""


_flow: ContextVar[FlowRunInfo] = own_variable("penstock_flow_run", FlowRunInfo())
_task: ContextVar[TaskRunInfo] = own_variable("penstock_task_run", TaskRunInfo())


class Current:
    """Reads its attributes from the current run, so that `from penstock.runtime import flow_run` works anywhere.

    Outside of a run, text attributes are None and `run_count` is 0.
    """

    def __init__(self, name: str, variable: ContextVar[Any]) -> None:
        self._name = name
        self._variable = variable

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._variable.get(), name)
        return None if value == "" else value

    def __dir__(self) -> list[str]:
        return sorted(each.name for each in fields(self._variable.get()))

    def __repr__(self) -> str:
        return repr(self._variable.get())

    def __reduce__(self) -> str:
        return self._name  # pickled by name: on a worker it refers to the run there


flow_run: Any = Current("flow_run", _flow)
task_run: Any = Current("task_run", _task)


def current_flow_run() -> FlowRunInfo:
    """Return the run of a flow around this code. Outside of runs its id is empty."""
    return _flow.get()


def in_flow_run(info: FlowRunInfo) -> having:
    """Make code in the block part of a flow run."""
    return having(_flow, info)


def in_attempt(count: int) -> having:
    """Set the number of the attempt for code in the block."""
    return having(_flow, replace(_flow.get(), run_count=count))


def in_task_run(info: TaskRunInfo) -> having:
    """Make code in the block part of a call of a task."""
    return having(_task, info)
