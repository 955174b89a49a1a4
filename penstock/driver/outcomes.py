"""Outcomes: handling an engine's reports about calls."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.driver.admission import Admission
from penstock.driver.completion import Completion
from penstock.driver.dispatching.dispatch import Dispatch
from penstock.driver.events import TimedOut
from penstock.driver.instructions import Later, Out, Steps
from penstock.driver.planning import Planning
from penstock.driver.state.run_state import RunState
from penstock.worker.messages import Finished, Outcome, Started, Waits


class Outcomes:
    """Translates reports into actions of the other parts of the core."""

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
        self._run = run
        self._out = out
        self._admission = admission
        self._dispatch = dispatch
        self._completion = completion
        self._planning = planning

    def started(self, report: Started) -> None:
        """Start the timeout of a bundle that a worker has started."""
        bundle = self._dispatch.under_way(report.bundle)
        if bundle is not None:
            seconds = self._run.graph.nodes[bundle.calls[0].node].entry.task.options.timeout_seconds
            if seconds is not None:
                self._out.append(Later(seconds, TimedOut(bundle.number, seconds)))

    def waits(self, report: Waits) -> None:
        """Release the locks of calls behind one that waits, because the engine will return them."""
        bundle = self._dispatch.under_way(report.bundle)
        if bundle is not None and report.waits:
            places = [call.node for call in bundle.calls]
            self._admission.let_locks_go(places[places.index(report.node) + 1 :])

    def timed_out(self, event: TimedOut) -> Steps[None]:
        """Stop a bundle whose timeout expired, if it is still running."""
        bundle = self._dispatch.under_way(event.bundle)
        if bundle is not None:
            self._dispatch.stop(bundle)
            seconds = event.seconds
            yield from self._settle([Outcome(c.node, c.attempt, "timeout", seconds=seconds) for c in bundle.calls])

    def finished(self, report: Finished) -> Steps[None]:
        """Handle the outcomes of a bundle that is over."""
        bundle = self._dispatch.under_way(report.bundle)
        if bundle is not None:
            self._dispatch.end(bundle)
            yield from self._settle(report.outcomes)

    def have_values(self, outcomes: Sequence[Outcome]) -> Steps[None]:
        """Record the values of nodes that were found or computed."""
        for outcome in outcomes:
            if self._planning.changed(outcome):
                yield from self._planning.revise([outcome.node])
            self._completion.succeeded(outcome)

    def _settle(self, outcomes: Sequence[Outcome]) -> Steps[None]:
        run, learn = self._run, self._dispatch.bundler.learn
        for outcome in outcomes:
            if run.scheduler.over(outcome.node):
                continue  # a dependency failed in the same bundle
            if outcome.kind in ("executed", "hit"):
                learn(run.graph.nodes[outcome.node], outcome.busy)
                if run.made_of_others(outcome.node):
                    # Computed from values that have changed since.
                    absent = run.values.absent(outcome.node)
                    yield from self._planning.decide_again(outcome.node, absent)
                else:
                    if self._planning.changed(outcome):
                        yield from self._planning.revise([outcome.node])
                    self._completion.succeeded(outcome)
            elif outcome.kind == "input_lost":
                yield from self._planning.input_lost(outcome.node, outcome.lost)
            else:
                self._no_value(outcome, alone=len(outcomes) == 1)

    def _no_value(self, outcome: Outcome, *, alone: bool) -> None:
        id, kind = outcome.node, outcome.kind
        if kind == "apart" or (kind == "worker_lost" and not alone):
            # The cause is unknown, so each call is tried by itself.
            self._run.travel_alone(id)
            self._hand_back(outcome)
        elif kind == "failed" and outcome.failure is not None:
            self._completion.attempt_failed(id, outcome.failure)
        elif kind == "timeout":
            self._completion.timed_out(outcome)
        elif kind == "worker_lost":
            self._completion.worker_lost(outcome)
        else:  # unowned, closed, not_started
            self._hand_back(outcome)

    def _hand_back(self, outcome: Outcome) -> None:
        """Decide the node of a call that did not run again, once its inputs are available."""
        self._admission.leave(outcome.node)
        self._completion.skip(self._run.handed_back(outcome.node, outcome.cache_key), outcome.node)
