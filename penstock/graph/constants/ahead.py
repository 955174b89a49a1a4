"""The tasks that a flow may call later, and whose state its calls change before: a shared cache, a list of timings.

Their code gets its digest before these calls run. Otherwise it would contain what other tasks have left in this
process, and no other process would find their results.
"""

from __future__ import annotations

import collections
from collections.abc import Container, Iterator

from penstock.digests.names import importable_name
from penstock.graph.carried import Code, code_id
from penstock.graph.constants.beside import Other
from penstock.graph.constants.modified import Modified
from penstock.graph.constants.named_tasks import tasks_named_in
from penstock.graph.constants.places import Finder
from penstock.graph.constants.states import Place
from penstock.graph.policies import CachePolicy, Part
from penstock.graph.tasks import TaskDefinition

_MOST_TASKS = 50
"""The most tasks of a run whose code gets its digest before they are called."""
_MOST_TRIES = 3
"""The most runs in which that is done for a task that is never called."""
_MOST_IN_VAIN = _MOST_TRIES * _MOST_TASKS
"""The most times in a process for such tasks."""
_MOST_SEARCHES = 20
"""The most runs in a row in which the tasks of a flow are looked for, and none is called whose state others change."""
_tries: collections.Counter[str] = collections.Counter()
"""The runs of this process in which it was done since a task was called, by its identity."""
_in_vain: collections.Counter[tuple[str, str]] = collections.Counter()
"""The runs of this process, by flow, since one called a task for which it was done."""


class Ahead:
    """The tasks that the flows of a run may call later."""

    def __init__(self) -> None:
        self._flows: list[Other] = []  # whose names have not been read
        self._running: list[Other] = []  # whose state is not known
        self._changed: set[Place] = set()
        self._tasks: dict[Code, tuple[TaskDefinition, CachePolicy]] = {}
        self._reached: dict[Code, frozenset[Place]] = {}
        self._count = 0
        self._searched: list[tuple[str, str]] = []  # the names of flows

    def note(self, code: Other, *, is_flow: bool) -> None:
        """Note the code of a flow, or of a task that it calls."""
        (self._flows if is_flow else self._running).append(code)

    def due(self, called: Container[Code]) -> Iterator[tuple[Code, TaskDefinition, CachePolicy]]:
        """Yield the tasks whose digests must be made before the calls run. `called` are those that have them."""
        while self._flows:
            self._find(self._flows.pop())
        self._tasks = {code: task for code, task in self._tasks.items() if code not in called}
        if not self._tasks or not self._running:
            return
        while self._running:
            self._changed |= self._running.pop().changes
        for code, (task, policy) in list(self._tasks.items()) if self._changed else ():
            if code not in self._reached:
                finder = Finder(Modified(), globals_count=Part.TASK_CODE in policy.parts)
                finder.places_of(task.fn)
                self._reached[code] = finder.reached()
            if not self._changed.isdisjoint(self._reached[code]) and self._count < _MOST_TASKS:
                del self._tasks[code]
                self._count += 1
                _tries[task.identity] += 1
                yield code, task, policy

    def _find(self, flow: Other) -> None:
        name = importable_name(flow.fn)
        if _tries.total() >= _MOST_IN_VAIN or _in_vain[name] >= _MOST_SEARCHES:
            return
        self._searched.append(name)
        _in_vain[name] += 1
        for task in tasks_named_in(flow.fn):
            policy = task.options.cache_policy
            if policy is None or not policy.caches or _tries[task.identity] >= _MOST_TRIES:
                continue
            code = code_id(task.fn, policy, task.identity)
            if code[1]:
                self._tasks.setdefault(code, (task, policy))

    def note_call(self, identity: str) -> None:
        """Note that a task is called."""
        if _tries.pop(identity, None) is not None:
            for name in self._searched:
                _in_vain.pop(name, None)
