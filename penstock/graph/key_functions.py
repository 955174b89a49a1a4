"""The arguments of a task's own `cache_key_fn`, and its call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.digests.python import combine, digest
from penstock.errors import PolicyError
from penstock.graph.policies import KeyFunction


@dataclass(frozen=True, slots=True)
class TaskView:
    """The task, as a key function sees it."""

    name: str
    fn: Callable[..., Any]
    task_key: str
    """The task's identity."""


class TaskRunView:
    """The call, as a key function sees it."""

    def __init__(self, flow_run_id: str, task_key: str, parameters: Mapping[str, Any]) -> None:
        self.flow_run_id = flow_run_id
        self._task_key = task_key
        self._parameters = parameters

    @property
    def id(self) -> str:
        """Identifies the call within the run; the same on the driver and on a worker."""
        return combine("task run", (self.flow_run_id, self._task_key, digest(dict(self._parameters))))


class TaskRunContext:
    """The first argument of a key function.

    Attributes:
        task: The task: its `name`, function `fn` and identity `task_key`.
        task_run: The call: its `id` and `flow_run_id`.
        parameters: The arguments of the call, by name.
        flow_parameters: The arguments of the flow, by name. Empty outside of a flow.
    """

    def __init__(
        self,
        task: TaskView,
        task_run: TaskRunView,
        parameters: dict[str, Any],
        flow_parameters: Mapping[str, object] | None = None,
    ) -> None:
        self.task = task
        self.flow_parameters = flow_parameters or {}
        self.task_run = task_run
        self.parameters = parameters

    @property
    def flow_run_id(self) -> str:
        """The id of the run."""
        return self.task_run.flow_run_id

    @property
    def task_run_id(self) -> str:
        """The id of the call within the run."""
        return self.task_run.id


def task_input_hash(context: Any, arguments: dict[str, Any]) -> str | None:
    """Return a key of the task's identity and the digests of all arguments. To be passed as `cache_key_fn`.

    Args:
        context: The `TaskRunContext` of the call.
        arguments: The arguments by name.

    Raises:
        DigestError: An argument has no stable digest.
    """
    task: str = context.task.task_key
    return combine("task_input_hash", (task, digest(arguments, where="arguments")))


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls the user's key function."""

    key_function: KeyFunction
    fn: Callable[..., Any]
    name: str
    identity: str
    run_id: str
    flow_parameters: Mapping[str, object]

    def answer(self, parameters: dict[str, Any]) -> str | None:
        """Return the key, or None not to cache the call. Raises `PolicyError` if the function returns neither."""
        task = TaskView(self.name, self.fn, self.identity)
        run = TaskRunView(self.run_id, self.identity, parameters)
        context = TaskRunContext(task, run, parameters, self.flow_parameters)
        answer = self.key_function(context, parameters)
        if answer is None or isinstance(answer, str):
            return answer
        raise PolicyError(
            f"the cache key function of {self.identity!r} returned {type(answer).__qualname__}",
            because="a key is a string, or None not to cache the call",
            hint="convert the result to a string",
        )
