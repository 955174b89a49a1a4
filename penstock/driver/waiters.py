"""Waiters: those that wait for nodes, and are answered when these are over."""

from __future__ import annotations

from penstock.driver.events import Waiter
from penstock.driver.instructions import Answer, Out
from penstock.driver.state.run_state import RunState


class Waiters:
    """The waiters for nodes, and those for the end of all running calls."""

    def __init__(self, run: RunState, out: Out) -> None:
        self._run = run
        self._out = out
        self._waiting: list[tuple[tuple[int, ...], Waiter]] = []
        self._last: list[Waiter] = []
        self.finishing = False
        """Whether nothing more may be started, since a waiter waits, or waited, for the running calls."""

    def wait_for(self, want: tuple[int, ...], waiter: Waiter) -> None:
        """Register a waiter for the nodes in `want`, or for all nodes if it is empty."""
        self._waiting.append((want, waiter))

    def wait_for_the_last(self, waiter: Waiter) -> None:
        """Start nothing more, and register a waiter for the end of all running calls."""
        self.finishing = True
        self._last.append(waiter)

    def forget(self, waiter: Waiter) -> None:
        """Remove a waiter."""
        self._waiting = [each for each in self._waiting if each[1] is not waiter]

    def answer(self, *, idle: bool) -> None:
        """Answer the waiters whose wait is over. `idle` says that no call is running."""
        run, still = self._run, []
        for want, waiter in self._waiting:
            if all(run.over(n) for n in want) if want else run.scheduler.idle:
                self._out.append(Answer(waiter))
            else:
                still.append((want, waiter))
        self._waiting = still
        if idle:
            self._out.extend(map(Answer, self._last))
            self._last.clear()

    def answer_all(self) -> None:
        """Answer all waiters, since there will be no more progress."""
        self._out.extend(Answer(waiter) for waiter in (*(waiter for _, waiter in self._waiting), *self._last))
        self._waiting.clear()
        self._last.clear()
