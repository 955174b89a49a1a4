"""Digests of Dask collections by recipe: the tasks of their graph and what these are given, whatever Dask calls them.

Dask's own tokens are not used. They change with its version, and some are random (`delayed`), so that equal collections
would never share a key. Here each key of the graph stands for the task behind it, as a Ref stands for a node. What
files a task reads does not count beyond their paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from penstock.digests.refs import Made
from penstock.digests.walk import UndigestibleError, Walk, hash_int, hash_node, hash_type

_HINT = "computing it, passing its source, or making it in a task gives it one"


def collection(value: Any, walk: Walk) -> bytes:
    """The digest of a DataFrame, Series, Array, Bag, Delayed and the like."""
    recipe = _Recipe(value.__dask_graph__(), walk)
    outputs = [recipe.digest(key) for key in _flat(value.__dask_keys__())]
    about = [
        walk.at(f".{name}", getattr(value, name)) for name in ("_meta", "divisions", "chunks") if _has(value, name)
    ]
    return hash_node(b"dask", (hash_type(type(value)), hash_int(len(outputs)), *outputs, *about))


def ray_dataset(value: Any, _: Walk) -> bytes:
    raise UndigestibleError(
        f"a Ray {type(value).__name__} has no stable digest",
        because=f"its blocks live in one cluster and its plan in Ray; {_HINT}",
    )


def _has(value: Any, name: str) -> bool:
    # `delayed` objects answer every name with another task
    return name in dir(type(value)) or name in getattr(value, "__dict__", {})


def _flat(keys: Any) -> Iterable[Any]:
    stack = [keys]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(reversed(item))
        else:
            yield item


class _Recipe:
    """The tasks of one graph, and the digests of those that were met."""

    def __init__(self, graph: Mapping[Any, Any], walk: Walk) -> None:
        from dask._task_spec import convert_legacy_graph

        self.tasks: dict[Any, Any] = convert_legacy_graph(dict(graph))
        self.walk = walk
        self.known: dict[Any, bytes] = {}

    def digest(self, key: Any) -> bytes:
        """Of what a key stands for. Graphs are deep: no recursion from task to task."""
        stack = [key]
        while stack:
            top = stack[-1]
            missing = [k for k in self.tasks[top].dependencies if k not in self.known]
            if missing:
                stack.extend(missing)
            else:
                self.known[top] = self._task(self.tasks[top])
                stack.pop()
        return self.known[key]

    def _task(self, task: Any) -> bytes:
        kind = type(task).__name__
        if kind == "Alias":
            return self.known[task.target]
        if kind == "DataNode":
            return self.walk.at(".<data>", task.value)
        try:
            parts = [self.walk.at(".<task>", self._filled(part)) for part in (task.func, list(task.args), task.kwargs)]
        except UndigestibleError as problem:
            problem.because = f"{problem.because or problem.what}; {_HINT}"
            raise
        return hash_node(b"dask.task", parts)

    def _filled(self, item: Any) -> Any:
        """An argument with the digests of tasks in place of references to them."""
        from dask._task_spec import GraphNode, TaskRef

        if isinstance(item, TaskRef):
            return Made(self.known[item.key])
        if isinstance(item, GraphNode):
            return Made(self._task(item))
        if type(item) in (list, tuple):
            return type(item)([self._filled(part) for part in item])
        if type(item) is dict:
            return {key: self._filled(part) for key, part in item.items()}
        return item
