"""Digests of Dask collections by the tasks in their graph and the arguments of these.

Dask's own tokens are not used: they change with its version, and some are random (`delayed`), so that equal collections
would never share a key. Instead each key of the graph stands for the task behind it, like a Ref for a node. Of the
files that a task reads, only the paths count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from penstock.digests.refs import Made
from penstock.digests.walk import UndigestibleError, Walk, hash_int, hash_node, hash_type

_HINT = "compute it, pass its source, or create it in a task instead"


def collection(value: Any, walk: Walk) -> bytes:
    """Return the digest of a DataFrame, Series, Array, Bag, Delayed and the like."""
    recipe = _Recipe(value.__dask_graph__(), walk)
    outputs = [recipe.digest(key) for key in _flat(value.__dask_keys__())]
    about = [
        walk.at(f".{name}", getattr(value, name)) for name in ("_meta", "divisions", "chunks") if _has(value, name)
    ]
    return hash_node(b"dask", (hash_type(type(value)), hash_int(len(outputs)), *outputs, *about))


def ray_dataset(value: Any, _: Walk) -> bytes:
    raise UndigestibleError(
        f"a Ray {type(value).__name__} has no stable digest",
        because=f"its blocks exist only in its cluster; {_HINT}",
    )


def _has(value: Any, name: str) -> bool:
    # `delayed` objects return another task for every attribute
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
    """The tasks of one graph, and the digests computed so far."""

    def __init__(self, graph: Mapping[Any, Any], walk: Walk) -> None:
        from dask._task_spec import convert_legacy_graph

        self.tasks: dict[Any, Any] = convert_legacy_graph(dict(graph))
        self.walk = walk
        self.known: dict[Any, bytes] = {}

    def digest(self, key: Any) -> bytes:
        """Return the digest of the task behind a key. Iterative, because graphs are deep."""
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
        """Return an argument with references to tasks replaced by their digests."""
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
