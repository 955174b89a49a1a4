"""Whose turn it is to change what the code of tasks reads: the flow's own code, or its tasks.

A flow that waits for its calls changes nothing. What differs after it has waited, its tasks have changed: their caches
and counters, which are no constants. What differs when it begins to wait, the flow has changed, unless calls of it
were still running: then the syntax of the tasks decides (see `modified`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from penstock.digests.definitions.mentioned import importing_nothing
from penstock.graph.carried import Code, code_digests, code_id
from penstock.graph.constants.ahead import Ahead
from penstock.graph.constants.beside import Other
from penstock.graph.constants.code_witness import CodeWitness
from penstock.graph.constants.left_state import as_before
from penstock.graph.policies import CachePolicy


class Turns:
    """The witnesses of a run's tasks, and whether the flow waits."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Held while witnesses are made and compared: several threads of a flow may call tasks."""
        self.waits = False
        """Whether the flow waits, so that only tasks can change anything."""
        self.alone = True
        """Whether only the flow can: no call is running."""
        self._others = 0
        self.number = 0
        """How often the flow has waited."""
        self._witnesses: list[tuple[str, CodeWitness]] = []
        self._latest: dict[Code, CodeWitness] = {}
        """The witnesses that further frames and copies of a task (`with_options`) share."""
        self._code: dict[int, Other] = {}  # that of the functions that may modify anything, by their id
        self.ahead = Ahead()

    def note_code(self, fn: Any, *, is_flow: bool = False) -> None:
        """Note the function of a flow or task, which may modify what others read."""
        with self.lock:
            if id(fn) not in self._code:
                other = self._code[id(fn)] = Other(fn)
                self.ahead.note(other, is_flow=is_flow)
                for _, witness in self._witnesses:
                    witness.beside([other])

    def witness_of(self, code: Code) -> CodeWitness | None:
        """Return the witness of a function's code if its digests still count. Raises `DigestError`."""
        witness = self._latest.get(code)
        return witness if witness is not None and witness.holds() else None

    def watch(self, task: str, witness: CodeWitness, code: Code) -> None:
        """Compare a task's constants whenever the flow begins to wait."""
        witness.beside(self._code.values())
        self._witnesses.append((task, witness))
        self._latest[code] = witness

    def begin_to_wait(self, *, last: bool = False) -> None:
        """Note what the flow has changed. Raises `DigestError` if it is unknown which calls this concerns.

        `last` says that the flow makes no further calls.
        """
        with self.lock:
            if not last:
                self._look_ahead()
            for task, witness in self._witnesses:
                witness.end_of_turn(task)
            self._witnesses = [each for each in self._witnesses if not each[1].outdated]
            self.waits = True

    def _look_ahead(self) -> None:
        """Make the digests of tasks that the flow may call later, before its calls change what they share."""
        for code, task, policy in self.ahead.due(self._latest):
            with contextlib.suppress(Exception), importing_nothing():  # a call of the task reports it
                _, witness = _new_code(task.fn, policy, task.identity, self)
                if witness is not None:
                    self.watch(task.identity, witness, code)

    def go_on(self, *, alone: bool) -> None:
        """Let the flow go on. `alone` says that no call of it is running."""
        with self.lock:
            for _, witness in self._witnesses:
                witness.begin_turn()
            self.number += 1
            self.waits, self.alone = False, alone and not self._others

    @contextlib.contextmanager
    def another_waits(self) -> Iterator[None]:
        """Note that another thread of the flow waits in the block, or its event loop: both can change anything."""
        with self.lock:
            self._others += 1
            self.alone = False
        try:
            yield
        finally:
            with self.lock:
                self._others -= 1

    def end(self) -> None:
        """Note the state in which tasks have left what their code modifies: the flow and all its calls are over."""
        with self.lock:
            for _, witness in self._witnesses:
                witness.end()

    def since(self) -> int | None:
        """Return what `waited_since` needs to know later."""
        return self.number if self.waits else None

    def waited_since(self, then: int | None) -> bool:
        """Return whether the flow has waited ever since."""
        return self.waits and then == self.number


def code_of(
    fn: Callable[..., Any], policy: CachePolicy, identity: str, turns: Turns | None
) -> tuple[Mapping[str, str], CodeWitness | None]:
    """Return what a function's code adds to keys, and the witness of the values that it reads, if there are any.

    Within the turns of a run, the digests of a function are made once, until something changes that counts in them:
    what its calls have left in their own state meanwhile is no reason to make them again. Raises `DigestError`.
    """
    code = code_id(fn, policy, identity)
    if turns is None:
        return _new_code(fn, policy, identity, None)
    turns.ahead.note_call(identity)
    if (known := turns.witness_of(code)) is not None:
        return known.digests, known
    digests, witness = _new_code(fn, policy, identity, turns)
    if witness is not None:
        turns.watch(identity, witness, code)
    return digests, witness


def _new_code(
    fn: Callable[..., Any], policy: CachePolicy, identity: str, turns: Turns | None
) -> tuple[Mapping[str, str], CodeWitness | None]:
    digests = as_before(code_digests(fn, policy, identity))
    witness = CodeWitness(fn, digests, lambda: code_digests(fn, policy, identity), turns) if digests else None
    return digests, witness or None
