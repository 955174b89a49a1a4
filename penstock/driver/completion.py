"""Completion: the end of an attempt. It gave a value, is retried, or its node has failed."""

from __future__ import annotations

import random
from collections.abc import Iterable

from penstock import events as log
from penstock.driver.admission import Admission
from penstock.driver.events import Rested
from penstock.driver.instructions import Later, Out, Tell, forget
from penstock.driver.retries import delay_before
from penstock.driver.state.run_state import RunState
from penstock.driver.state.values import Result
from penstock.errors import Cancelled, TaskTimeout, UpstreamFailed, WorkerLost, is_a
from penstock.objects.chains import links_of
from penstock.objects.texts import text_of, told
from penstock.runtime import TaskRunInfo
from penstock.worker.failures import FailedState, describe, note, to_exception
from penstock.worker.messages import Failure, Outcome

MAX_WORKER_LOSSES = 3
"""How many times a node is run again after its worker died, in addition to its own retries."""


class Completion:
    """Ends attempts and nodes, updating the run's state, the locks, the engine's values and the log."""

    def __init__(self, run: RunState, out: Out, *, admission: Admission, rng: random.Random) -> None:
        self._run = run
        self._out = out
        self._admission = admission
        self._rng = rng

    def succeeded(self, outcome: Outcome) -> None:
        """Complete a node that has its value."""
        id, run = outcome.node, self._run
        executed, whole = outcome.kind == "executed", outcome.record
        record = whole.light() if whole is not None else None
        result = Result(outcome.digest, record, outcome.handle, outcome.expires, outcome.part_of, outcome.replaces)
        run.has_value(id, result, outcome.seconds if executed else None)
        if outcome.off_recipe or not run.follows_recipe(id):
            run.off_recipe.add(id)
            run.graph.forget_recipe(id)
        self._admission.over(id, "published")
        run.finished(id)
        forget(self._out, run.values.inputs_used(id) + run.values.let_go((id,)))
        if run.graph.nodes[id].entry.task.derived and not outcome.notes:
            return  # a part of a result is no call of a task
        self._out.append(
            Tell(
                log.NodeFinished(
                    at=run.now.at,
                    node=id,
                    task=run.name(id),
                    how="executed" if executed else "hit",
                    attempt=outcome.attempt,
                    key=outcome.cache_key,
                    seconds=outcome.seconds,
                    size=whole.size if whole is not None else None,
                    worker=outcome.worker,
                    notes=outcome.notes,
                )
            )
        )

    def worker_lost(self, outcome: Outcome) -> None:
        """Retry a node whose worker died, or fail it after too many losses."""
        name, losses = self._run.name(outcome.node), self._run.worker_lost(outcome.node)
        if losses <= MAX_WORKER_LOSSES:
            why = f": {outcome.failure.message}" if outcome.failure is not None else ""
            self._try_again(outcome.node, 0.0, f"its worker died{why}")
            return
        error = WorkerLost(
            f"the worker that ran {name} died, {losses} times in a row",
            because=outcome.failure.message if outcome.failure else "",
            hint="check whether the task ends its process (os._exit, a crash in C code)"
            if outcome.failure is not None and "it exited with status" in outcome.failure.message
            else "check for out-of-memory kills; if so, request more memory with resources=",
        )
        self.fail(outcome.node, describe(error))

    def timed_out(self, outcome: Outcome) -> None:
        """Retry or fail a node whose attempt exceeded its timeout."""
        error = TaskTimeout(
            f"{self._run.name(outcome.node)} ran longer than {outcome.seconds:g} s",
            where=f"node {outcome.node}, attempt {outcome.attempt}",
            hint="increase timeout_seconds, or set retries for the task",
        )
        self.attempt_failed(outcome.node, describe(error))

    def attempt_failed(self, id: int, failure: Failure) -> None:
        """Retry a node whose attempt failed, or fail it."""
        options, progress = self._run.graph.nodes[id].entry.task.options, self._run.progress[id]
        retry = progress.attempt - progress.losses
        try:
            again = retry <= options.retries and self._may_retry(id, failure)
            delay = delay_before(options, retry, self._rng) if again else 0.0
        except BaseException as error:  # noqa: BLE001 (delays and conditions are the user's code)
            # The task's own error is the cause; the error of the retry options is only a note.
            self.fail(id, failure)
            if error is not failure.error:
                note(self._run.progress[id].error, f"not retried: its retry options raised {told(error)}")
            return
        if again:
            self._try_again(id, delay, f"{failure.type_name}: {failure.message}")
        else:
            self.fail(id, failure)

    def _may_retry(self, id: int, failure: Failure) -> bool:
        task, progress = self._run.graph.nodes[id].entry.task, self._run.progress[id]
        condition = task.options.retry_condition_fn
        if condition is None:
            return True
        error = to_exception(failure, task=self._run.graph.path_of(id), node=id, attempt=progress.attempt)
        info = TaskRunInfo(name=f"{task.name}-{id}", task_name=task.name, run_count=progress.attempt)
        return bool(condition(task, info, FailedState(error)))

    def _try_again(self, id: int, delay: float, reason: str) -> None:
        run, attempt = self._run, self._run.progress[id].attempt
        event = log.NodeRetried(at=run.now.at, node=id, task=run.name(id), attempt=attempt, delay=delay, reason=reason)
        self._out.append(Tell(event))
        self._admission.rest(id)
        run.retry(id, delay)
        if delay > 0:
            self._out.append(Later(delay, Rested(id)))

    def fail(self, id: int, failure: Failure) -> None:
        """Fail a node that will not get a value."""
        run, attempt = self._run, self._run.progress[id].attempt
        self._admission.over(id, "failed")
        skipped = run.fail(id, to_exception(failure, task=run.graph.path_of(id), node=id, attempt=attempt))
        forget(self._out, run.values.inputs_used(id))
        self.skip(skipped, id)
        event = log.NodeFailed(
            at=run.now.at,
            node=id,
            task=run.name(id),
            attempt=attempt,
            error=failure.type_name,
            message=failure.message,
            traceback=failure.traceback,
            skipped=sum(not run.graph.nodes[each].entry.task.derived for each in skipped),
        )
        self._out.append(Tell(event))

    def skip(self, skipped: Iterable[int], cause: int) -> None:
        """Fail nodes that never run, with an error that names the node that failed."""
        run = self._run
        for id in skipped:
            root = next(n for n in run.needs_of(id) if run.error(n) is not None) if id == cause else cause
            reason = run.error(root)
            if is_a(reason, UpstreamFailed):
                reason = links_of(reason).cause or reason
            error = UpstreamFailed(
                f"{run.graph.path_of(id)} never ran",
                where=f"node {id}",
                because=f"{run.graph.path_of(root)} (node {root}) failed: {text_of(reason)}",
                node=root,
            )
            error.__cause__ = reason
            self._admission.over(id, "abandoned")
            run.skip(id, error)
            forget(self._out, run.values.inputs_used(id))

    def stop_all(self) -> None:
        """Stop all unfinished nodes of a cancelled run."""
        run = self._run
        unfinished = run.scheduler.unfinished()
        for id in unfinished:
            if not run.scheduler.over(id):  # otherwise it was skipped with a node that was stopped before
                run.stop(id, Cancelled(f"{run.name(id)} did not finish", where=f"node {id}", because="cancelled"))
        self._admission.abandon(unfinished)
