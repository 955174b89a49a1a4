"""The driver: the one loop that brings a traced graph forward on any engine.

It runs in a thread of its own. Whatever reaches it (more graph, outcomes, woken locks, timers) is a call put into its
inbox, so the board is touched by one thread. Each turn of the loop handles what has come, admits what is ready and
hands over as much as the engine has room for.

    plan → ready → admit → dispatch → outcome → finished | retried | failed | parked | made again
"""

from __future__ import annotations

import contextlib
import heapq
import queue
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from penstock import events
from penstock.driver.admission import Admission
from penstock.driver.completion import Endings
from penstock.driver.dispatch import Dispatch
from penstock.driver.leases import Claims
from penstock.driver.lookups import Lookups
from penstock.driver.revising import Revision
from penstock.driver.run_state import Board
from penstock.driver.scheduler import State
from penstock.errors import Cancelled, DamagedResult, PenstockError, StoreUnreachable
from penstock.graph.graphs import Entry
from penstock.graph.planning import NoAnswer, Status
from penstock.runners.base import NO_GENERATION, Bundle, Finished, Outcome, Started, Waits
from penstock.runners.failures import describe

MAX_REMAKES = 3
"""A value that cannot be read back is made again this often."""


class Driver:
    """Brings one graph forward. Public methods may be called from any thread; `start` first, `close` last."""

    def __init__(
        self,
        board: Board,
        *,
        lookups: Lookups,
        admission: Admission,
        dispatch: Dispatch,
        claims: Claims,
        recompute_unknown: bool,
        rng: random.Random | None = None,
    ) -> None:
        self.board = board
        self.crash: BaseException | None = None
        self.over = False
        """The loop has ended: nothing goes forward any more."""
        self.dropped: list[int] = []  # nodes nobody holds a future of any more; appended by other threads
        self._lookups = lookups
        self._admission = admission
        self._dispatch = dispatch
        self._claims = claims
        self._recompute_unknown = recompute_unknown
        self._revision = Revision(board)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="penstock-driver", daemon=True)
        self._asked: list[threading.Event] = []  # by threads whose message the loop has not taken yet
        self._waiting: list[tuple[tuple[int, ...], threading.Event]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_number = 0
        self._stopping = False
        self._cancelled = False
        self._last: list[threading.Event] = []  # set when what is under way has ended; nothing more is begun
        self._endings = Endings(
            board,
            admission=admission,
            dispatch=dispatch,
            claims=claims,
            later=self._later,
            rng=rng or random.Random(),
        )

    # -- from other threads ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the loop's thread."""
        self._thread.start()

    def advance(self, *, want: tuple[int, ...] = ()) -> threading.Event:
        """Plan and run everything traced so far; the event is set when all of `want` (default: everything) is over.

        It is set as well when the loop ends before that.
        """
        done = threading.Event()
        upto = len(self.board.graph)
        self._asked.append(done)
        self._inbox.put(lambda: self._extend(upto, want, done))
        if self.over:  # asked after: either this sees that the loop ended, or the ending loop sees the event
            done.set()
        return done

    def give_up(self, done: threading.Event) -> None:
        """Whoever called `advance` does not wait any longer."""
        self._inbox.put(lambda: self._forget_waiting(done))

    def _forget_waiting(self, done: threading.Event) -> None:
        self._waiting = [each for each in self._waiting if each[1] is not done]

    def remake(self, node: int, reason: str, generation: int | None) -> None:
        """A stored value that was handed out turned out to be unusable: make it again."""
        self._inbox.put(lambda: self._revive(node, reason, generation))

    def finish_running(self) -> threading.Event:
        """Begin nothing more; the event is set when all that is under way has ended, or the loop has."""
        ended = threading.Event()
        self._asked.append(ended)
        self._inbox.put(lambda: self._finish_running(ended))
        if self.over:
            ended.set()
        return ended

    def cancel(self) -> None:
        """Stop running work and start no more; what is unfinished fails with `Cancelled`."""
        self._inbox.put(self._cancel)

    def report(self, report: Started | Waits | Finished) -> None:
        """What the engine has to say."""
        self._inbox.put(lambda: self._on_report(report))

    def wake(self, key: str) -> None:
        """A parked key may be free or published."""
        self._inbox.put(lambda: self._admission.woken(key))

    def wake_later(self, key: str, seconds: float) -> None:
        """As `wake`, after so long, and not if the run is cancelled before. From the driver's own thread."""
        self._later(seconds, lambda: self._admission.woken(key))

    def locks_lost(self, held: int) -> None:
        """A lock session's lease ran out."""
        self._inbox.put(lambda: self.board.emit(events.LocksLost(at=self.board.clock.now(), held=held)))

    def locks_down(self, doing: str, error: PenstockError, *, unlocked: bool) -> None:
        """The lock manager did not answer, or cannot lock, which was not fatal."""
        reason = ": ".join(text for text in (error.what, error.because) if text)
        event = events.LocksDown(at=self.board.clock.now(), doing=doing, reason=reason, unlocked=unlocked)
        self._inbox.put(lambda: self.board.emit(event))

    def close(self) -> None:
        """Stop the loop, the locks and the engine. Running work is cancelled."""
        self._inbox.put(self._stop)
        if self._thread.ident is not None:
            self._thread.join()
        self._claims.close()
        # Nobody can ask the engine for values any more.
        self._dispatch.release(self.board.let_all_go())
        self._dispatch.close()

    def fetch(self, handle: Any) -> Any:
        """A value out of the engine."""
        return self._dispatch.engine.fetch(handle)

    # -- the loop ---------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            while not self._stopping:
                self._take_messages()
                self._fire_timers()
                self._drop()
                self._claims.flush()
                ready = self.board.scheduler.take_ready()
                if not self._last:
                    self._go_on(ready)
                self._answer_waiting()
                self._claims.flush()
        except BaseException as error:  # noqa: BLE001 (handed to the thread that waits for the run)
            self.crash = error
            self._give_up_locks()
        for event in (*self._last, *(waiting for _, waiting in self._waiting)):
            event.set()
        self._waiting.clear()
        while not self._stopping:
            # Nothing goes forward after a crash, but whoever still comes to wait must be answered.
            with contextlib.suppress(Exception):
                self._inbox.get()()
        self.over = True
        for event in (*self._asked, *self._last, *(waiting for _, waiting in self._waiting)):
            event.set()

    def _give_up_locks(self) -> None:
        """After a crash nothing goes forward: others need not wait until the flow notices."""
        with contextlib.suppress(Exception):  # what made the loop crash may be the lock manager; leases run out
            self._claims.release_all(self.board.scheduler.unfinished(), "abandoned")
            self._claims.flush()

    def _go_on(self, ready: list[int]) -> None:
        if ready and not self._cancelled:
            self._admit(ready)
        refused, again = self._dispatch.hand_over()
        for id, failure in refused:
            self._endings.fail(id, failure)
        for id in again:
            self._decide_again(id, self.board.absent(id))

    def _take_messages(self) -> None:
        timeout = max(0.0, self._timers[0][0] - self.board.clock.monotonic()) if self._timers else None
        if self.board.scheduler.has_ready:
            timeout = 0.0
        try:
            self._inbox.get(timeout=timeout)()
            while True:
                self._inbox.get_nowait()()
        except queue.Empty:
            return

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._timer_number += 1
        heapq.heappush(self._timers, (self.board.clock.monotonic() + seconds, self._timer_number, action))

    def _fire_timers(self) -> None:
        now = self.board.clock.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def _drop(self) -> None:
        if self.dropped:
            count = len(self.dropped)  # other threads append meanwhile
            ids = self.dropped[:count]
            del self.dropped[:count]
            self._dispatch.release(self.board.let_go(ids))

    def _answer_waiting(self) -> None:
        still = []
        for want, event in self._waiting:
            if all(self.board.over(n) for n in want) if want else self.board.scheduler.idle:
                event.set()
            else:
                still.append((want, event))
        self._waiting = still
        if self._last and self._dispatch.idle:
            for event in self._last:
                event.set()

    def _finish_running(self, ended: threading.Event) -> None:
        self._asked.remove(ended)
        self._last.append(ended)
        if self.crash is not None:
            ended.set()

    def _stop(self) -> None:
        self._stopping = True
        self._cancel()

    # -- planning -------------------------------------------------------------------------------------------------

    def _extend(self, upto: int, want: tuple[int, ...], done: threading.Event) -> None:
        self._asked.remove(done)
        if self.crash is not None:
            done.set()
            return
        self._waiting.append((want, done))
        graph, before = self.board.graph, self.board.planned
        targets = [t for t in graph.outputs(before, self.board.held) if t < upto]
        self.board.planned = max(before, upto)
        self._bring([*targets, *want])
        # What was kept for these nodes alone, and turns out not to be needed by them.
        self._dispatch.release(self.board.let_go(dep for node in graph.nodes[before:upto] for dep in node.deps))

    def _bring(self, ids: Iterable[int]) -> None:
        """See to it that these nodes get a value: by a hit, by running, or by running again what was let go."""
        board, counters = self.board, self.board.planner.counters
        new = [id for id in ids if board.planner.lacks_value(id)]
        for id in ids:
            if board.over(id) and not board.there(id) and board.error(id) is None:
                self._run_again(id, "its value was let go")
        if not new:
            return
        before = (counters.rounds, counters.lookups)
        self._lookups.drive(board.planner, new)
        if board.planner.revised:
            self._revise(board.planner.revised)
        for id in sorted(board.planner.fresh):
            self._schedule(id)
        for id in board.planner.reconciled():
            self._lookups.note_agreement(board.graph[id], board)
        self._tell_plan(counters.rounds - before[0], counters.lookups - before[1])

    def _schedule(self, id: int) -> None:
        board, step = self.board, self.board.planner.steps[id]
        answer = step.answer
        if isinstance(answer, NoAnswer) and answer.generation is not None:
            raise answer.error  # whatever `on_unknown` says: it would hide that somebody else wrote there
        if step.status is Status.UNKNOWN and not self._recompute_unknown:
            raise StoreUnreachable(
                f"the store did not say whether there is a result of {board.name(id)}",
                because=str(getattr(step.answer, "error", "")),
                hint='try again when it answers, or set on_unknown="recompute" to run without knowing',
            )
        if step.status is Status.PRUNED:
            return  # only looked at, to see whether others agree
        if not step.runs:
            board.note_hit(id)
            if board.planner.found_by_content(id):
                self._lookups.note_recipe(board.graph[id], step.answer, board)
        elif not self._cancelled:
            progress = board.begin(id)
            progress.looked_up = progress.key is not None and not board.graph.nodes[id].entry.refresh
            self._endings.skip(board.add(id), id)

    def _tell_plan(self, rounds: int, lookups: int) -> None:
        board = self.board
        tally = dict.fromkeys(("hit", "miss", "bypass", "unknown"), 0)
        calls: dict[Entry, int] = {}
        for id in sorted(board.planner.fresh):  # tasks are told in the order of their first calls
            status = board.planner.steps[id].status
            if status is Status.PRUNED:
                continue
            tally[str(status)] += 1
            if status is not Status.HIT:
                entry = board.graph.nodes[id].entry
                calls[entry] = calls.get(entry, 0) + 1
        tasks: dict[str, int] = {}
        for entry, count in calls.items():
            tasks[entry.task.name] = tasks.get(entry.task.name, 0) + count
        now = board.clock.now()
        board.emit(
            events.NodesPlanned(at=now, nodes=self.board.planned, rounds=rounds, lookups=lookups, tasks=tasks, **tally)
        )

    def _admit(self, ready: list[int]) -> None:
        admitted = self._admission.admit(ready)
        for outcome in admitted.hits:
            self._succeeded(outcome)
        for id, absent in admitted.lacking:
            self._decide_again(id, absent)
        for id, error in admitted.waited:
            self._endings.fail(id, describe(error))
        for id in admitted.run:
            self._dispatch.push(id)

    def _decide_again(self, id: int, needs: Iterable[int]) -> None:
        """The node waits for inputs that have to be made (again), and its key for their values."""
        self._admission.forget(id)
        self._bring(needs)
        self._endings.skip(self.board.scheduler.wait_again(id, needs), id)

    # -- outcomes ---------------------------------------------------------------------------------------------------

    def _on_report(self, report: Started | Waits | Finished) -> None:
        bundle = self._dispatch.under_way(report)
        if bundle is None:
            return
        if isinstance(report, Started):
            self._watch_time(bundle)
            return
        if isinstance(report, Waits):
            if report.waits:
                self._let_go_behind(bundle, report.node)
            return
        self._dispatch.end(bundle)
        for outcome in report.outcomes:
            if outcome.kind == "apart" or (outcome.kind == "worker_lost" and len(report.outcomes) > 1):
                # Nobody can say whose fault it was: each of them is tried by itself.
                if not self.board.scheduler.over(outcome.node):
                    self.board.progress[outcome.node].alone = True
                    self._hand_back(outcome)
            else:
                self._on_outcome(outcome)

    def _let_go_behind(self, bundle: Bundle, node: int) -> None:
        """Calls behind the one that waits will come back: nobody is to wait meanwhile for what they would compute."""
        places = [call.node for call in bundle.calls]
        self._claims.release_all(places[places.index(node) + 1 :], "abandoned")

    def _watch_time(self, bundle: Bundle) -> None:
        seconds = self.board.graph[bundle.calls[0].node].entry.task.options.timeout_seconds
        if seconds is not None:
            self._later(seconds, lambda: self._time_out(bundle, seconds))

    def _time_out(self, bundle: Bundle, seconds: float) -> None:
        if not self._dispatch.end(bundle):
            return
        self._dispatch.engine.cancel(bundle.number)
        for call in bundle.calls:
            self._on_outcome(Outcome(call.node, call.attempt, "timeout", seconds=seconds))

    def _on_outcome(self, outcome: Outcome) -> None:
        id = outcome.node
        if self.board.scheduler.over(id):
            return  # something it needs failed in the same bundle
        if outcome.kind in ("executed", "hit"):
            board = self.board
            self._dispatch.bundler.learn(board.graph.nodes[id], outcome.busy)
            if board.changes and board.progress[id].inputs_age != board.inputs_age(id):
                self._decide_again(id, self.board.absent(id))  # made from values that are others now
            else:
                self._succeeded(outcome)
        elif outcome.kind == "failed" and outcome.failure is not None:
            self._endings.attempt_failed(id, outcome.failure)
        elif outcome.kind == "timeout":
            self._endings.timed_out(outcome)
        elif outcome.kind == "worker_lost":
            self._endings.worker_lost(outcome)
        elif outcome.kind == "input_lost":
            self._input_lost(id, outcome.lost)
        else:  # unclaimed, closed, not_started
            self._hand_back(outcome)

    def _succeeded(self, outcome: Outcome) -> None:
        if self._revision.changed(outcome):
            self._revise([outcome.node])
        self._endings.succeeded(outcome)

    def _revise(self, changed: list[int]) -> None:
        """Values of the run are others now: what was made from the old ones is decided anew."""
        for id in changed:
            if self.board.planner.steps[id].runs and id not in self.board.scheduler:
                self.board.results.pop(id, None)  # a hit that was taken back
        for id in self._revision.outdated(changed):
            self._run_again(id, "an input came out differently")
        self._revision.check_unseen(changed)

    def _hand_back(self, outcome: Outcome) -> None:
        """The call did not run: its node is decided again, with what is known now, once its inputs are there."""
        id, board = outcome.node, self.board
        if board.scheduler.over(id):
            return
        self._admission.leave(id)
        progress = board.progress[id]
        progress.key = outcome.cache_key or progress.key
        progress.looked_up = False
        self._endings.skip(board.scheduler.wait_again(id, board.needs_of(id)), id)

    def _input_lost(self, id: int, lost: Mapping[int, int]) -> None:
        board = self.board
        made_since = board.progress[id].key_age != board.age(id)
        for node, generation in lost.items():
            if generation == NO_GENERATION and made_since:
                continue  # others had missed it too, and it is there again
            if board.remade.get(node, 0) >= MAX_REMAKES:
                error = DamagedResult(
                    f"the result of {board.name(node)} cannot be read back",
                    where=f"node {node}, needed by node {id}",
                    because=f"it was made {MAX_REMAKES + 1} times, and each time its bytes were missing or damaged",
                    hint="see whether something else writes to the store; `penstock verify` reads all of it",
                )
                self._endings.fail(id, describe(error))
                return
            stored = generation != NO_GENERATION
            self._revive(node, "its stored bytes are missing or damaged" if stored else "its value is lost", generation)
        self._decide_again(id, lost)

    # -- making again, cancelling -----------------------------------------------------------------------------------

    def _revive(self, id: int, reason: str, generation: int | None) -> None:
        """A node's stored value is unusable: it runs again in this run, with whatever was pruned above it."""
        result = self.board.results.get(id)
        if result is None or (result.record is not None and generation not in (None, result.record.generation)):
            return  # made again already
        now = self.board.clock.now()
        self.board.emit(events.NodeRevived(at=now, node=id, task=self.board.name(id), reason=reason))
        self._revision.made_again(id)
        self._run_again(id, reason)
        self.board.progress[id].seen = generation

    def _run_again(self, id: int, reason: str) -> None:
        board = self.board
        board.results.pop(id, None)
        board.remade[id] = board.remade.get(id, 0) + 1
        board.planner.revive(id, reason)
        board.begin(id)
        skipped = board.scheduler.reopen(id, board.needs_of(id)) if id in board.scheduler else board.add(id)
        self._endings.skip(skipped, id)

    def _cancel(self) -> None:
        if self._cancelled:
            return
        self._cancelled = True
        self._dispatch.cancel_all()
        self._timers.clear()
        board = self.board
        unfinished = board.scheduler.unfinished()
        for id in unfinished:
            if not board.scheduler.over(id):
                error = Cancelled(f"{board.name(id)} did not finish", where=f"node {id}", because="cancelled")
                for stopped in (id, *board.scheduler.failed(id)):
                    board.progress[stopped].error = error
        self._admission.abandon(unfinished)

    def failed_nodes(self) -> list[int]:
        """Nodes whose own call failed, lowest number first. From any thread, after the run."""
        scheduler = self.board.scheduler
        return sorted(
            n for n, p in self.board.progress.items() if p.error is not None and scheduler.state(n) is State.FAILED
        )
