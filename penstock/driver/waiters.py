"""Waiters: who waits for which nodes, and is told when these are over."""

from __future__ import annotations

from penstock.driver.events import Waiter
from penstock.driver.instructions import Answer, Out
from penstock.driver.state.run_state import RunState


class Waiters:
    """Those who wait for nodes, and those who wait for what is under way to end."""

    def __init__(self, run: RunState, out: Out) -> None:
        self._run = run
        self._out = out
        self._waiting: list[tuple[tuple[int, ...], Waiter]] = []
        self._last: list[Waiter] = []
        self.finishing = False
        """Somebody waits for what is under way, or did: nothing more is begun."""

    def wait_for(self, want: tuple[int, ...], waiter: Waiter) -> None:
        """The waiter waits until all of `want` (or of the run, if that is empty) are over."""
        self._waiting.append((want, waiter))

    def wait_for_the_last(self, waiter: Waiter) -> None:
        """Nothing more is to be begun; the waiter waits until nothing is under way."""
        self.finishing = True
        self._last.append(waiter)

    def forget(self, waiter: Waiter) -> None:
        """The waiter does not wait any longer."""
        self._waiting = [each for each in self._waiting if each[1] is not waiter]

    def answer(self, *, idle: bool) -> None:
        """Tell those whose wait is over. `idle`: nothing is under way."""
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
        """Nothing goes forward any more: whoever waits is told."""
        self._out.extend(Answer(waiter) for waiter in (*(waiter for _, waiter in self._waiting), *self._last))
        self._waiting.clear()
        self._last.clear()
