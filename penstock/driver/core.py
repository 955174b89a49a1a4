"""The driver's core: receives events and returns instructions, without threads, clock, engine or store.

    plan → ready → admit → dispatch → outcome → finished | retried | failed | parked | made again

Each event is handled completely before the next one. If that needs an answer (a lookup, a lock, a place in the
engine), the question is the last instruction, and the next event must be its answer: `asking` is true then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from penstock import events as log
from penstock.driver.admission import Admission
from penstock.driver.completion import Completion
from penstock.driver.dispatching.dispatch import Dispatch
from penstock.driver.events import (
    Answered,
    Broken,
    Cancel,
    Dropped,
    Event,
    Extend,
    FinishRunning,
    GiveUp,
    GoOn,
    LocksDown,
    LocksLost,
    Refused,
    Remake,
    Rested,
    Stop,
    TimedOut,
    Woken,
)
from penstock.driver.instructions import Answer, Crash, Instruction, Out, Steps, Tell, forget
from penstock.driver.outcomes import Outcomes
from penstock.driver.planning import Planning
from penstock.driver.state.progress import Moment
from penstock.driver.state.run_state import RunState
from penstock.driver.waiters import Waiters
from penstock.worker.failures import describe
from penstock.worker.messages import Finished, Started, Waits


class Core:
    """Decides what happens to one graph. `assembly.make_core` creates one."""

    def __init__(
        self,
        run: RunState,
        out: Out,
        *,
        admission: Admission,
        dispatch: Dispatch,
        completion: Completion,
        planning: Planning,
    ) -> None:
        """All parts append their instructions to `out`."""
        self.run = run
        self._out = out
        self._admission = admission
        self._dispatch = dispatch
        self._completion = completion
        self._planning = planning
        self._outcomes = Outcomes(
            run, out, admission=admission, dispatch=dispatch, completion=completion, planning=planning
        )
        self._waiters = Waiters(run, out)
        self._steps: Steps[None] | None = None
        self._cancelled = False
        self._crashed = False
        outcomes, waiters = self._outcomes, self._waiters
        self._handlers: Mapping[type, Callable[[Any], Steps[None] | None]] = {
            Extend: self._on_extend,
            GiveUp: lambda event: waiters.forget(event.waiter),
            Remake: lambda event: planning.remake(event.node, event.reason, event.generation),
            FinishRunning: lambda event: waiters.wait_for_the_last(event.waiter),
            Cancel: lambda event: self._cancel(),
            Stop: lambda event: self._stop(),
            Dropped: lambda event: forget(out, run.values.let_go(event.nodes)),
            Woken: lambda event: admission.woken(event.key),
            Rested: lambda event: run.rested(event.node),
            TimedOut: outcomes.timed_out,
            LocksLost: self._on_locks_lost,
            LocksDown: self._on_locks_down,
            GoOn: self._on_go_on,
            Started: outcomes.started,
            Waits: outcomes.waits,
            Finished: outcomes.finished,
        }

    @property
    def asking(self) -> bool:
        """Whether the next event must be the answer to a question."""
        return self._steps is not None

    @property
    def has_ready(self) -> bool:
        """Whether another turn would make progress."""
        return self.run.scheduler.has_ready and not (self._waiters.finishing or self._cancelled or self._crashed)

    def handle(self, event: Event, now: Moment) -> list[Instruction]:
        """Return the instructions for an event. Never raises: if the run cannot continue, they contain a `Crash`."""
        self.run.now = now
        try:
            if isinstance(event, Broken):
                self._crash(event.error)
            elif self._crashed:
                self._after_crash(event)
            else:
                self._decide(event)
        except BaseException as error:  # noqa: BLE001 (handed to the thread that waits for the run)
            self._crash(error)
        instructions = self._out[:]
        self._out.clear()
        return instructions

    def _decide(self, event: Event) -> None:
        steps = self._steps
        try:
            if isinstance(event, Answered):
                assert steps is not None  # there was a question
                question = steps.send(event.answer)
            elif isinstance(event, Refused):
                assert steps is not None
                question = steps.throw(event.error)
            else:
                assert steps is None  # there is no open question
                self._steps = steps = self._handlers[type(event)](event)
                if steps is None:
                    return
                question = next(steps)
        except StopIteration:
            self._steps = None
        else:
            self._out.append(question)

    # -- events ---------------------------------------------------------------------------------------------------

    def _on_extend(self, event: Extend) -> Steps[None]:
        self._waiters.wait_for(event.want, event.waiter)
        return self._planning.extend(event)

    def _on_go_on(self, event: GoOn) -> Steps[None]:
        """Decide ready nodes, and submit as many as there is room for."""
        if not self._waiters.finishing and not self._cancelled:
            ready = self.run.take_ready()
            if ready:
                yield from self._admit(ready)
            refused, again = yield from self._dispatch.hand_over(event.capacity)
            for id, failure in refused:
                self._completion.fail(id, failure)
            for id in again:
                yield from self._planning.decide_again(id, self.run.values.absent(id))
        self._waiters.answer(idle=self._dispatch.idle)

    def _admit(self, ready: list[int]) -> Steps[None]:
        admitted = yield from self._admission.admit(ready)
        yield from self._outcomes.have_values(admitted.hits)
        for id, absent in admitted.lacking:
            yield from self._planning.decide_again(id, absent)
        for id, error in admitted.waited:
            self._completion.fail(id, describe(error))
        for id in admitted.run:
            self._dispatch.push(id)

    def _cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = self._planning.stopped = True
            self._dispatch.stop_all()
            self._completion.stop_all()

    def _stop(self) -> None:
        self._cancel()
        self._waiters.answer_all()

    def _on_locks_lost(self, event: LocksLost) -> None:
        self._out.append(Tell(log.LocksLost(at=self.run.now.at, held=event.held)))

    def _on_locks_down(self, event: LocksDown) -> None:
        at, doing, reason, unlocked = self.run.now.at, event.doing, event.reason, event.unlocked
        self._out.append(Tell(log.LocksDown(at=at, doing=doing, reason=reason, unlocked=unlocked)))

    # -- crashes --------------------------------------------------------------------------------------------------

    def _crash(self, error: BaseException) -> None:
        """Release locks and wake waiters at once, without waiting for the flow to notice."""
        self._crashed, self._steps = True, None
        self._out.append(Crash(error))
        self._admission.give_all_up()
        self._waiters.answer_all()

    def _after_crash(self, event: Event) -> None:
        """Answer waiters that still arrive, and stop calls that are running."""
        if isinstance(event, Extend | FinishRunning):
            self._out.append(Answer(event.waiter))
        elif isinstance(event, Cancel | Stop):
            self._cancel()
