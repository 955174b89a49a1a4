"""The driver's loop: the thread around the core, with the clock and the inbox.

Everything that reaches the driver (more graph, outcomes, woken locks, timers) is an event in its inbox. Each turn of
the loop passes these events to the core, and then lets it decide all ready nodes together.
"""

from __future__ import annotations

import contextlib
import heapq
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from penstock.clocks import Clock
from penstock.driver.core import Core
from penstock.driver.effects.performing import Performer
from penstock.driver.events import (
    Broken,
    Cancel,
    Dropped,
    Event,
    Extend,
    FinishRunning,
    GiveUp,
    GoOn,
    Remake,
    Stop,
)
from penstock.driver.inbox import Inbox
from penstock.driver.instructions import Answer, Crash, Later
from penstock.driver.state.progress import Moment


class Driver:
    """Executes one graph. Public methods may be called from any thread; `start` first, `close` last."""

    def __init__(self, core: Core, performer: Performer, inbox: Inbox, *, clock: Clock) -> None:
        self.run = core.run
        self.inbox = inbox
        self.crash: BaseException | None = None
        self.over = False
        """Whether the loop has ended."""
        self.dropped: list[int] = []  # nodes whose last future is gone; appended by other threads
        self._core = core
        self._performer = performer
        self._clock = clock
        self._thread = threading.Thread(target=self._loop, name="penstock-driver", daemon=True)
        self._asked: list[threading.Event] = []  # waiters whose events the loop has not taken yet
        self._timers: list[tuple[float, int, Event]] = []
        self._timer_number = 0
        self._stopping = False
        self._instructions: Mapping[type, Callable[[Any], object]] = {
            **performer.instructions,
            Answer: lambda told: told.waiter.set(),
            Later: self._later,
            Crash: self._crashed,
        }

    # -- from other threads ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the loop's thread."""
        self._thread.start()

    def advance(self, *, want: tuple[int, ...] = ()) -> threading.Event:
        """Plan and run everything traced so far.

        The returned event is set when all nodes in `want` (or all nodes, if it is empty) are over, or the loop ends.
        """
        done = threading.Event()
        return self._ask(done, Extend(len(self.run.graph), want, done))

    def give_up(self, done: threading.Event) -> None:
        """Stop waiting for an event that `advance` returned."""
        self.inbox.put(GiveUp(done))

    def remake(self, node: int, reason: str, generation: int | None) -> None:
        """Recompute a stored value that turned out to be unusable."""
        self.inbox.put(Remake(node, reason, generation))

    def finish_running(self) -> threading.Event:
        """Start nothing more. The returned event is set when all running calls, or the loop, have ended."""
        ended = threading.Event()
        return self._ask(ended, FinishRunning(ended))

    def cancel(self) -> None:
        """Stop running calls and start no more. Unfinished nodes fail with `Cancelled`."""
        self.inbox.put(Cancel())

    def fetch(self, handle: Any) -> Any:
        """Fetch a value from the engine."""
        engine = self._performer.engine
        assert engine is not None  # it created the handle
        return engine.fetch(handle)

    def close(self) -> None:
        """Stop the loop, the locks and the engine. Running calls are cancelled."""
        self.inbox.put(None)
        if self._thread.ident is not None:
            self._thread.join()
        # No value can be requested from the engine any more.
        self._performer.close(self.run.values.let_all_go())

    def _ask(self, waiter: threading.Event, event: Extend | FinishRunning) -> threading.Event:
        self._asked.append(waiter)
        self.inbox.put(event)
        if self.over:  # checked last: either this sees that the loop ended, or the ending loop sees the waiter
            waiter.set()
        return waiter

    # -- the loop ---------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._stopping:
            try:
                self._turn()
            except BaseException as error:  # noqa: BLE001 (handed to the thread that waits for the run)
                self._end(Broken(error))
        self._end(Stop())
        self._timers.clear()
        self.over = True
        for waiter in self._asked:
            waiter.set()

    def _end(self, event: Broken | Stop) -> None:
        """Carry out the last instructions as far as possible: one of them may be what failed."""
        for instruction in self._core.handle(event, self._now()):
            with contextlib.suppress(Exception):  # locks that are not released expire
                self._instructions[type(instruction)](instruction)
        with contextlib.suppress(Exception):
            self._performer.leases.flush()

    def _turn(self) -> None:
        self._take_messages()
        if self._stopping:
            return
        self._fire_timers()
        if self.dropped:
            count = len(self.dropped)  # other threads append meanwhile
            dropped = self.dropped[:count]
            del self.dropped[:count]
            self._handle(Dropped(dropped))
        self._performer.leases.flush()
        self._handle(GoOn(self._performer.capacity()))
        self._performer.leases.flush()

    def _take_messages(self) -> None:
        timeout = max(0.0, self._timers[0][0] - self._clock.monotonic()) if self._timers else None
        if self._core.has_ready:
            timeout = 0.0
        try:
            self._take(self.inbox.get(timeout=timeout))
            while not self._stopping:
                self._take(self.inbox.get_nowait())
        except queue.Empty:
            return

    def _take(self, event: Event | None) -> None:
        if event is None:
            self._stopping = True
            return
        if isinstance(event, Extend | FinishRunning):
            self._asked.remove(event.waiter)
        self._handle(event)

    def _fire_timers(self) -> None:
        now = self._clock.monotonic()
        while self._timers and self._timers[0][0] <= now:
            self._handle(heapq.heappop(self._timers)[2])

    def _handle(self, event: Event) -> None:
        """Pass an event to the core and carry out its instructions, until it has no more questions."""
        following: Event | None = event
        while following is not None:
            instructions, following = self._core.handle(following, self._now()), None
            for instruction in instructions:
                done = self._instructions.get(type(instruction))
                if done is not None:
                    done(instruction)
                else:
                    following = self._performer.answer(instruction)

    def _now(self) -> Moment:
        return Moment(self._clock.now(), self._clock.monotonic())

    def _later(self, wanted: Later) -> None:
        self._timer_number += 1
        at = self._clock.monotonic() + wanted.seconds
        heapq.heappush(self._timers, (at, self._timer_number, wanted.event))

    def _crashed(self, told: Crash) -> None:
        self.crash = self.crash or told.error
