"""Sends the source lines of functions that are pickled by value, so that tracebacks on workers show them."""

from __future__ import annotations

import inspect
import linecache
import sys
import uuid
from types import CodeType, FunctionType
from typing import Any

import cloudpickle.cloudpickle

from penstock.objects.live import Pickler, why_unpicklable
from penstock.worker.messages import ShippedTask
from penstock.worker.shipping.same_code import Code, code_of
from penstock.worker.shipping.values import pickled

MAX_BYTES = 256 * 1024
"""Larger files are not sent."""
_PROCESS = uuid.uuid4().hex
"""A forked process has this one's code, so it may have its name."""


def pickled_task(shipped_task: ShippedTask) -> bytes:
    """Pickle a task for workers. Raises `SerializationError` if it cannot be sent."""
    task = shipped_task.task

    def named() -> dict[str, Any]:
        parts = {task.name: task.fn, "definition": task, "keys": shipped_task.template}
        return dict(next(([each] for each in parts.items() if why_unpicklable(each[1])), ()))

    return pickled(_Shipped(shipped_task), f"task {task.name}", named=named, pickler=_TaskPickler)


class _Shipped:
    """A task together with the lines of its function's file."""

    def __init__(self, shipped_task: ShippedTask) -> None:
        self.shipped_task = shipped_task

    def __reduce__(self) -> tuple[Any, ...]:
        code = code_of(self.shipped_task)
        return _arrived, (self.shipped_task, _lines_of(self.shipped_task.task.fn), code, _PROCESS)


def _lines_of(fn: Any) -> tuple[str, str]:
    """Return the file and source of a function that is pickled by value; empty for those that workers import."""
    fn = inspect.unwrap(fn)
    if type(fn) is not FunctionType:
        return "", ""
    code = fn.__code__
    found: Any = None if fn.__module__ == "__main__" else sys.modules.get(fn.__module__)
    for part in fn.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not None:
        return "", ""
    text = "".join(linecache.getlines(code.co_filename))
    return code.co_filename, text if len(text) <= MAX_BYTES else ""


def _arrived(shipped_task: ShippedTask, source: tuple[str, str], code: Code, process: str) -> ShippedTask:
    name, text = source
    shipped_task.code = code if process != _PROCESS else {}
    if text:
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)  # no time: never checked
    return shipped_task


class _TaskPickler(Pickler):
    """Keeps the file names of code, which cloudpickle drops and tracebacks need."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is CodeType:
            _, arguments = cloudpickle.cloudpickle._code_reduce(obj)
            return _code, (arguments, obj.co_filename)
        return super().reducer_override(obj)


def _code(arguments: tuple[Any, ...], file: str) -> CodeType:
    return CodeType(*arguments).replace(co_filename=file)
