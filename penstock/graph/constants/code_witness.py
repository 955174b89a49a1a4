"""Detects that a constant or closure variable of a task changed after a call, so that no result is published under the
key of its earlier value.

Flows run their calls later than they make them: in `for i in range(3): @task … def f(x): return x + i`, each call would
see the last `i`. A `CodeWitness` keeps the values that the code had when its digest was made. Comparing their identity
takes about a microsecond; only if one is another object, the code is digested again.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, Self

from penstock.errors import DigestError
from penstock.graph.constants.beside import Beside, Other
from penstock.graph.constants.left_state import as_before, note_left
from penstock.graph.constants.places import Places, places_of
from penstock.graph.constants.states import Unchanged


class Turn(Protocol):
    """Who can change anything at present (`penstock.graph.constants.turns`)."""

    waits: bool
    alone: bool

    def since(self) -> int | None: ...

    def waited_since(self, then: int | None) -> bool: ...


_MANY = 10_000
"""Of more places, the flow's changes are noticed, and those that tasks make while others run are not."""


class CodeWitness:
    """The values that a task's code reads: closure variables, constants, attributes, and what is inside them.

    The contents of large arrays and tables and of objects of installed packages are not compared.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        digests: Mapping[str, str],
        read: Callable[[], Mapping[str, str]],
        turn: Turn | None = None,
    ) -> None:
        """Create a witness of the present values.

        Args:
            fn: The task's function.
            digests: The digests of its code, by component of the key.
            read: Computes them again.
            turn: Who can change anything. None outside of flows, where a call runs at once.
        """
        self.digests = dict(digests)
        self._read_as_is = read
        self._turn = turn
        self._find = functools.partial(places_of, fn, globals_count="task_code" in digests)
        self._beside = Beside(fn, globals_count="task_code" in digests)
        self.replaced = False
        """Whether another task has changed something since: later calls have other digests."""
        self.outdated = False
        """Whether the flow has changed something since: calls that have not run must not run."""
        self.doubtful = False
        """Whether state that other code modifies, too, has changed since: results of calls are not published."""
        self._asked = False  # in this turn
        self._differed = False  # at the last call, so that calls have other digests since
        self._unsure = False  # calls were made in this turn without comparing anything
        self._calls: list[str] = []  # that are running in this process
        self._growing = self._look().growing
        self._first = self._certain
        self._left = False  # whether tasks have changed anything
        self._names = ""  # of what the flow has changed, once it is noticed

    def __bool__(self) -> bool:
        """Return whether there is anything to compare."""
        return bool(self._places)

    def beside(self, others: Iterable[Other]) -> None:
        """Take into account that the code of flows or other tasks may modify the state of this one."""
        if self._state and self._beside.add(others):
            self._shared = self._beside.places(self._found)  # what the flow has changed meanwhile stays a change

    def holds(self) -> bool:
        """Return whether calls that are made now may share the digests. Raises `DigestError` like `changed`."""
        return not (self._beside.unclear or self.doubtful or self._differed or self.changed())

    def _look(self) -> Places:
        self._found = found = self._find()
        self._places: Sequence[Unchanged] = found.found
        self._certain: Sequence[Unchanged] = found.certain
        self._large = found.large
        self._state = any(found.state)
        self._shared = self._beside.places(found) if self._state else {}
        self._many = len(self._places) > _MANY
        self._single = len(self._places) == 1 and not (self._state or self._large)
        return found

    def changed(self) -> bool:
        """Return whether the digests are others now, at a call. Raises `DigestError` if a new value has none."""
        if self.outdated or self.replaced:
            return True
        if self._single and self._same(self._places):
            self._differed = False
            return False  # by far the most common case
        if not self._places:
            return False
        if self._large and self._asked:
            self._unsure = True  # comparing all of it for each call would take too long
            return False
        self._asked = True
        self._differed = self._note_shared() or self._differs()
        return self._differed

    def end_of_turn(self, task: str) -> None:
        """Compare once more before the flow waits. Raises `DigestError` if calls were made without comparing."""
        differs = self._note_shared()
        if not self.outdated and self._differs():
            self.outdated = differs = True
        if differs and self._unsure:
            raise self._changed(task)

    def begin_turn(self) -> None:
        """Take what tasks have changed since for given."""
        self._asked = self._unsure = False
        self._note_shared()
        if not self._same(self._places):
            if self.outdated:
                self._names = self._names or _names_of(self._places)
            self._left = True
            self.replaced = self.replaced or self._is_replaced()
            before = self._shared.keys()
            self._look()
            if self._beside.unclear and not (self.doubtful or self._shared.keys() <= before):
                self._doubt()  # other code modifies objects that were made meanwhile

    def _is_replaced(self) -> bool:
        """Return whether something changed that the task's own code does not modify."""
        if self._same(self._certain):
            return False
        try:
            return as_before(dict(self._read_as_is())) != self.digests
        except DigestError:
            return True

    def end(self) -> None:
        """Note the state in which tasks have left what their code modifies, at the end of a run."""
        left = self._left or not self._same(self._growing)
        if left and not (self.outdated or self.doubtful or self._beside.unclear) and self._same(self._first):
            with contextlib.suppress(DigestError):
                note_left(self._read_as_is(), self.digests)

    def check(self, task: str) -> None:
        """Raise `DigestError` if the flow changed the code after a call of it was made."""
        turn = self._turn
        if self.outdated or (turn is not None and not turn.waits and self._differs()):
            raise self._changed(task)

    def running(self, task: str) -> Running:
        """Raise `DigestError` around a block in which a call runs if anything else changed the code."""
        return Running(self, task)

    def _begin(self, task: str) -> tuple[int | None, bool]:
        """Return what `_end` needs to know, and whether the result may be published."""
        if self._turn is None:
            return None, True
        # What differs now has been changed by other tasks, unless calls of this one are under way.
        if not self._calls and not self._many:
            self._note_shared()
            if self._differs():
                raise self._changed(task)
        if self.outdated:
            raise self._changed(task)
        self._calls.append(task)
        return self._turn.since(), not self.doubtful

    def _end(self, task: str, since: int | None, *, failed: bool) -> bool:
        """Return whether the result may be published, unless something differed before."""
        if self._turn is None:
            return True
        self._calls.pop()
        if failed or (self._many and not self.outdated):
            return True
        if self._turn.waited_since(since) and not self.outdated:
            self.begin_turn()
            return True
        self._note_shared()
        if self.outdated or self._differs():
            raise self._changed(task)
        return not self.doubtful

    def _changed(self, task: str) -> DigestError:
        return DigestError(
            f"a constant or closure variable of {task} changed after the call",
            where=self._names or _names_of(self._places),
            because="the call runs later than it is made, and its result would be published under the key of the "
            "earlier value",
            hint="pass the value as an argument or a default (def f(x, i=i)), or call .result() before it changes",
        )

    def _note_shared(self) -> bool:
        """Return whether state has just changed for the first time that other code modifies, too."""
        if self.doubtful or not self._shared or self._same(self._shared.values()):
            return False
        self._doubt()
        return True

    def _doubt(self) -> None:
        self.doubtful = True
        try:
            self.replaced = self.replaced or dict(self._read_as_is()) != self.digests
        except DigestError:
            self.replaced = True

    def _differs(self) -> bool:
        """Return whether the digests are others now. While calls are running, what they modify does not count."""
        alone = self._turn is None or (self._turn.alone and not self._turn.waits)
        if self._same(self._places if alone else self._certain):
            return False
        if as_before(dict(self._read_as_is())) != self.digests:
            return True
        self._look()  # equal objects
        return False

    @staticmethod
    def _same(places: Iterable[Unchanged]) -> bool:
        try:
            for unchanged in places:
                if not unchanged():
                    return False
        except Exception:  # noqa: BLE001 (a name is gone, or an object can no longer be read)
            return False
        return True


def _names_of(places: Sequence[Unchanged]) -> str:
    from penstock.graph.constants.naming import names_of_changes  # only needed for errors

    return names_of_changes(places)


class Running:
    """One call that runs in this process, as a context."""

    def __init__(self, witness: CodeWitness, task: str) -> None:
        self._witness = witness
        self._task = task

    def __enter__(self) -> Self:
        self._since, self._certain = self._witness._begin(self._task)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._certain = self._witness._end(self._task, self._since, failed=kind is not None) and self._certain

    @property
    def doubtful(self) -> bool:
        """Whether it is unknown if the code was what its digest says, so that the result must not be published."""
        return not self._certain
