"""Endings: what follows when an attempt of a node is over: its value is noted, it is tried again, or it has failed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Literal

from penstock import events
from penstock.driver.admission import Admission
from penstock.driver.dispatch import Dispatch
from penstock.driver.leases import Claims
from penstock.driver.retries import delay_before
from penstock.driver.run_state import Board, Result
from penstock.errors import TaskTimeout, UpstreamFailed, WorkerLost, is_a
from penstock.runners.base import Failure, Outcome
from penstock.runners.failures import FailedState, describe, to_exception
from penstock.runtime import TaskRunInfo
from penstock.texts import text_of

MAX_WORKER_LOSSES = 3
"""A node is run again this often after its worker died, besides its own retries."""


class Endings:
    """Ends attempts and nodes: the board, the locks, the engine's values and the log all hear of it here."""

    def __init__(
        self,
        board: Board,
        *,
        admission: Admission,
        dispatch: Dispatch,
        claims: Claims,
        later: Callable[[float, Callable[[], None]], None],
        rng: random.Random,
    ) -> None:
        """`later(seconds, action)` has the action done by the driver's loop."""
        self._board = board
        self._admission = admission
        self._dispatch = dispatch
        self._claims = claims
        self._later = later
        self._rng = rng

    def succeeded(self, outcome: Outcome) -> None:
        """The node has its value."""
        id, board = outcome.node, self._board
        how: Literal["executed", "hit"] = "executed" if outcome.kind == "executed" else "hit"
        record = outcome.record.light() if outcome.record is not None else None
        board.results[id] = Result(outcome.digest, record, outcome.handle, outcome.expires, outcome.part_of)
        board.planner.finished(id, outcome.digest)
        board.outcomes[id] = how
        if how == "executed":
            board.took(id, outcome.seconds)
        self._claims.release(id, "published")
        board.scheduler.finished(id)
        self._admission.leave(id)
        self._dispatch.release(board.inputs_used(id) + board.let_go((id,)))
        del board.progress[id]
        board.emit(
            events.NodeFinished(
                at=board.clock.now(),
                node=id,
                task=board.name(id),
                how=how,
                attempt=outcome.attempt,
                key=outcome.cache_key,
                seconds=outcome.seconds,
                size=outcome.record.size if outcome.record is not None else None,
                worker=outcome.worker,
                notes=outcome.notes,
            )
        )

    def worker_lost(self, outcome: Outcome) -> None:
        """The worker died under the attempt."""
        progress = self._board.progress[outcome.node]
        progress.losses += 1
        if progress.losses <= MAX_WORKER_LOSSES:
            why = f": {outcome.failure.message}" if outcome.failure is not None else ""
            self._try_again(outcome.node, 0.0, f"its worker died{why}")
            return
        error = WorkerLost(
            f"the worker that ran {self._board.name(outcome.node)} died, {progress.losses} times in a row",
            because=outcome.failure.message if outcome.failure else "",
            hint="look for out-of-memory kills; ask for more memory with resources=",
        )
        self.fail(outcome.node, describe(error))

    def timed_out(self, outcome: Outcome) -> None:
        """The attempt ran longer than it may."""
        error = TaskTimeout(
            f"{self._board.name(outcome.node)} ran longer than {outcome.seconds:g} s",
            where=f"node {outcome.node}, attempt {outcome.attempt}",
            hint="raise timeout_seconds, or give the task retries",
        )
        self.attempt_failed(outcome.node, describe(error))

    def attempt_failed(self, id: int, failure: Failure) -> None:
        """The attempt did not succeed: there is another one, or the node has failed."""
        options, progress = self._board.graph[id].entry.task.options, self._board.progress[id]
        retry = progress.attempt - progress.losses
        try:
            again = retry <= options.retries and self._may_retry(id, failure)
            delay = delay_before(options, retry, self._rng) if again else 0.0
        except BaseException as error:  # noqa: BLE001 (delays and conditions are the user's code)
            self.fail(id, describe(error))
            return
        if again:
            self._try_again(id, delay, f"{failure.type_name}: {failure.message}")
        else:
            self.fail(id, failure)

    def _may_retry(self, id: int, failure: Failure) -> bool:
        task, progress = self._board.graph[id].entry.task, self._board.progress[id]
        condition = task.options.retry_condition_fn
        if condition is None:
            return True
        error = to_exception(failure, task=task.name, node=id, attempt=progress.attempt)
        info = TaskRunInfo(name=f"{task.name}-{id}", task_name=task.name, run_count=progress.attempt)
        return bool(condition(task, info, FailedState(error)))

    def _try_again(self, id: int, delay: float, reason: str) -> None:
        board, progress = self._board, self._board.progress[id]
        board.counts["retried"] += 1
        now = board.clock.now()
        board.emit(
            events.NodeRetried(
                at=now, node=id, task=board.name(id), attempt=progress.attempt, delay=delay, reason=reason
            )
        )
        progress.attempt += 1
        self._admission.rest(id)
        if delay > 0:
            board.scheduler.hold(id)
            self._later(delay, lambda: board.scheduler.resume(id))
        else:
            board.scheduler.resume(id)

    def fail(self, id: int, failure: Failure) -> None:
        """The node has no value and will not get one."""
        board, progress = self._board, self._board.progress[id]
        progress.error = to_exception(failure, task=board.name(id), node=id, attempt=progress.attempt)
        board.outcomes[id] = "failed"
        self._claims.release(id, "failed")
        skipped = board.scheduler.failed(id)
        self._admission.leave(id)
        self._dispatch.release(board.inputs_used(id))
        self.skip(skipped, id)
        board.emit(
            events.NodeFailed(
                at=board.clock.now(),
                node=id,
                task=board.name(id),
                attempt=progress.attempt,
                error=failure.type_name,
                message=failure.message,
                traceback=failure.traceback,
                skipped=len(skipped),
            )
        )

    def skip(self, skipped: Iterable[int], cause: int) -> None:
        """Nodes that never run: their error names the node that failed."""
        board = self._board
        for id in skipped:
            root = next(n for n in board.needs_of(id) if board.error(n) is not None) if id == cause else cause
            reason = board.error(root)
            if is_a(reason, UpstreamFailed) and reason.__cause__ is not None:
                reason = reason.__cause__
            error = UpstreamFailed(
                f"{board.name(id)} never ran",
                where=f"node {id}",
                because=f"{board.name(root)} (node {root}) failed: {text_of(reason)}",
                node=root,
            )
            error.__cause__ = reason
            board.progress[id].error = error
            self._dispatch.release(board.inputs_used(id))
