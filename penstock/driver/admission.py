"""Admission: what a ready node still has to pass before it is handed to a runner.

inputs there? → cache key → does another node of this run compute it? → look up → lock → a slot of each limit
→ a start of each rate
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from penstock import events
from penstock.driver.fusion import Owners
from penstock.driver.leases import Claims
from penstock.driver.limits import Limits
from penstock.driver.lookups import Lookups
from penstock.driver.rates import Rates
from penstock.driver.run_state import Board
from penstock.errors import LockTimeout, PenstockError, TracingError
from penstock.graph.planning import Hit, NoAnswer, Query
from penstock.locks.base import Holder, Lease, LockManager
from penstock.runners.base import Outcome
from penstock.runners.flights import FlightOf
from penstock.runners.nesting import PATIENCE_SECONDS, Nesting

_log = logging.getLogger("penstock.locks")
MAX_DEPTH = 50
"""So often a call that needs no lock may ask for its own key, one inside of the other."""


@dataclass(slots=True)
class Admitted:
    """What became of a batch of ready nodes; those in none of the lists wait for somebody else."""

    run: list[int] = field(default_factory=list)
    hits: list[Outcome] = field(default_factory=list)
    lacking: list[tuple[int, list[int]]] = field(default_factory=list)
    """Nodes with the inputs that have no value anywhere (any more)."""
    waited: list[tuple[int, PenstockError]] = field(default_factory=list)
    """Nodes that have waited for somebody else as long as they may, or would wait for ever."""


class Admission:
    """Decides ready nodes in batches: one look-up round and one lock call for all of them."""

    def __init__(
        self,
        board: Board,
        *,
        lookups: Lookups,
        claims: Claims,
        owners: Owners,
        flight_of: FlightOf,
        limits: Limits,
        rates: Rates,
        lock_wait_seconds: float | None = None,
        around: Nesting | None = None,
    ) -> None:
        """`around` are the calls that the run is inside of, if it is."""
        self._board = board
        self._lookups = lookups
        self._claims = claims
        self._owners = owners
        self._flight_of = flight_of
        self._limits = limits
        self._rates = rates
        self._lock_wait_seconds = lock_wait_seconds
        self._around = around
        self._told: set[int] = set()
        self._leaders: dict[str, int] = {}
        self._followers: dict[str, list[int]] = {}
        self._parked: dict[str, list[int]] = {}

    def admit(self, ready: Iterable[int]) -> Admitted:
        """Decide these nodes as far as it is possible now."""
        admitted = Admitted()
        leaders = [id for id in ready if self._leads_its_key(id)]
        if self._around is not None:
            leaders = [id for id in leaders if not self._waits_for_itself(id, self._around, admitted)]
        hits = self._hits(leaders)
        admitted.hits = list(hits.values())
        to_run = []
        for id in leaders:
            if id in hits:
                continue
            absent = self._board.absent(id)
            if absent:
                admitted.lacking.append((id, absent))
            else:
                to_run.append(id)
        locked = self._locked(to_run, admitted)
        if self._around is not None and not self._around.lends:
            locked = [id for id in locked if not self._waits_in_vain(id, admitted)]
        admitted.run, parked = self._rates.use(self._limits.acquire(locked))
        for id in parked:
            self._limits.release(id)  # nobody waits for one kind while holding another
        for id in [*hits, *admitted.run]:
            self._unpark(id)
        return admitted

    def rest(self, id: int) -> None:
        """The node's attempt is over: until the next one it takes no slot of a limit."""
        self._limits.release(id)

    def leave(self, id: int) -> None:
        """The node is over: others of this run that waited for its key are decided again."""
        self.rest(id)
        key = self._board.progress[id].key
        if key is None or self._leaders.get(key) != id:
            return
        del self._leaders[key]
        self._decide_again(self._followers.pop(key, ()))

    def abandon(self, ids: Iterable[int]) -> None:
        """The run is cancelled: these are over without a value, and nobody waits for anything any more."""
        for waiting in (self._followers, self._parked, self._leaders):
            waiting.clear()
        for id in ids:
            self._limits.release(id)
            self._claims.release(id, "abandoned")
        self._limits.clear()
        self._rates.clear()

    def forget(self, id: int) -> None:
        """The node's key, and its lock, may be another once its inputs are made again."""
        self.leave(id)
        self._claims.release(id, "abandoned")
        progress = self._board.progress[id]
        progress.key, progress.looked_up = self._board.graph[id].cache_key, False

    def woken(self, key: str) -> None:
        """Whoever held the key is done with it, or may be."""
        if self._limits.woken(key) or self._rates.woken(key):
            return
        self._decide_again(self._parked.pop(key, ()))

    def _decide_again(self, ids: Iterable[int]) -> None:
        for id in ids:
            if not self._board.scheduler.over(id):
                self._board.progress[id].looked_up = False
                self._board.scheduler.resume(id)

    def _leads_its_key(self, id: int) -> bool:
        node, progress = self._board.graph[id], self._board.progress[id]
        if not node.cached:
            return True
        if self._board.outdated(id):
            self.forget(id)
        if progress.key is None:
            progress.key, progress.key_age = self._board.planner.content_key(node), self._board.age(id)
        if progress.key is None:
            return True  # known on the worker only, when it has the values
        if self._owners.must_wait(id):
            self._board.scheduler.hold(id)
            return False
        if self._leaders.setdefault(progress.key, id) == id:
            return True
        self._followers.setdefault(progress.key, []).append(id)
        self._board.scheduler.hold(id)
        return False

    def _hits(self, ids: Iterable[int]) -> dict[int, Outcome]:
        board = self._board
        asked = [id for id in ids if board.progress[id].key is not None and not board.progress[id].looked_up]
        queries = [Query(id, board.graph[id].entry.task.identity, board.progress[id].key, None) for id in asked]
        hits: dict[int, Outcome] = {}
        for id, answer in zip(asked, self._lookups.answer(queries) if queries else (), strict=True):
            progress, node = board.progress[id], board.graph[id]
            progress.looked_up = True
            if isinstance(answer, NoAnswer) and node.entry.refresh and progress.seen is None:
                progress.seen = answer.generation
            if not isinstance(answer, Hit):
                continue
            if node.entry.refresh and progress.seen is None and not board.made_earlier(answer.record):
                progress.seen = answer.record.generation
            elif answer.record.generation != progress.seen:
                expires = self._lookups.note_recipe(node, answer, board)
                hits[id] = Outcome(
                    id, progress.attempt, "hit", answer.cache_key, answer.digest, answer.record, expires=expires
                )
        return hits

    def _locked(self, ids: Iterable[int], admitted: Admitted) -> list[int]:
        """The nodes that need no lock, and those that have theirs; the others are parked."""
        board = self._board
        wanted: dict[tuple[int, bool], tuple[LockManager, dict[int, str]]] = {}
        for node_id in ids:
            key = board.progress[node_id].key
            if key is None or self._claims.lease(node_id) is not None:
                continue
            flight = self._flight_of(board.graph[node_id])
            if flight.manager is not None:
                wanted.setdefault((id(flight.manager), flight.required), (flight.manager, {}))[1][node_id] = key
        parked = set()
        for (_, required), (manager, keys) in wanted.items():
            for node_id, answer in self._acquired(manager, keys, required).items():
                if isinstance(answer, Lease):
                    continue
                if answer is not None and self._hopeless(node_id, answer):
                    self._claims.waive(node_id, keys[node_id])
                    continue
                parked.add(node_id)
                if answer is not None and self._waited_too_long(node_id):
                    admitted.waited.append((node_id, self._timeout(node_id, answer)))
                else:
                    self._park(node_id, keys[node_id], answer)
        return [node_id for node_id in ids if node_id not in parked]

    def _acquired(
        self, manager: LockManager, keys: Mapping[int, str], required: bool
    ) -> dict[int, Lease | Holder | None]:
        """One try for each node's key. What a run around this one holds is computed under its lock: to wait for that
        run would be to wait for ourselves."""
        answers = self._claims.acquire(manager, keys, required=required)
        around = self._around
        if around is not None:
            held = {id: a for id, a in answers.items() if isinstance(a, Holder) and around.holds(a)}
            if held:
                answers |= self._claims.borrow(manager, held)
        return answers

    def _hopeless(self, id: int, holder: Holder) -> bool:
        """Whether the node runs without a lock in the end: what it waits for may be waiting for the call around it."""
        around = self._around
        if around is None or not self._waited(id, PATIENCE_SECONDS):
            return False
        if around.lends and id not in self._told:
            self._told.add(id)
            _log.warning(
                "%s, called inside of a task, has waited %.0f s for a result that is computed by %s",
                self._board.name(id), PATIENCE_SECONDS, holder.described(),
            )  # fmt: skip
        return not around.lends

    def _waits_in_vain(self, id: int, admitted: Admitted) -> bool:
        """Whether the node has waited for a slot that a call may have which waits for the worker of the call around."""
        if not self._board.progress[id].limited or not self._waited(id, PATIENCE_SECONDS):
            return False
        error = LockTimeout(
            f"{self._board.name(id)}, called inside of a task, waited {PATIENCE_SECONDS:g} s for a slot of a limit",
            where=f"node {id}, tags {', '.join(sorted(self._board.graph[id].entry.task.options.tags))}",
            because="the call around it keeps its worker meanwhile, which those that have the slots may need",
            hint="call the task in the flow and pass its result on, or give the outer task the same tag",
        )
        admitted.waited.append((id, error))
        return True

    def _waits_for_itself(self, id: int, around: Nesting, admitted: Admitted) -> bool:
        node, key = self._board.graph[id], self._board.progress[id].key
        times = 0 if key is None else around.keys.count((node.entry.task.identity, key))
        # Without a lock it does not wait, and may know what it does; but not for ever.
        if not times or (times < MAX_DEPTH and self._flight_of(node).manager is None):
            return False
        name = self._board.name(id)
        error = TracingError(
            f"{name} would wait for itself",
            where=f"key {key}",
            because=f"while that key was being computed, {name} was called for the same key again",
            hint="call it with other arguments, or have the cache policy tell the two calls apart",
        )
        admitted.waited.append((id, error))
        return True

    def _park(self, id: int, key: str, holder: Holder | None) -> None:
        """The node waits for the holder, or (without one) for the lock manager to answer again."""
        board, progress = self._board, self._board.progress[id]
        board.scheduler.hold(id)
        # Of a borrowed lock another one says when it is free.
        self._parked.setdefault(holder.key if holder is not None else key, []).append(id)
        if holder is None:
            return
        if progress.parked_since is None:
            progress.parked_since = board.clock.monotonic()
            board.counts["contended"] += 1
        # A node is looked at every few seconds while it is parked: said once for each holder.
        if progress.parked_on != (holder.session_id, holder.fencing_token):
            progress.parked_on = (holder.session_id, holder.fencing_token)
            now = board.clock.now()
            board.emit(
                events.NodeParked(at=now, node=id, task=board.name(id), key=key, holder=holder.info, since=holder.since)
            )

    def _unpark(self, id: int) -> None:
        board, progress = self._board, self._board.progress[id]
        if progress.parked_since is not None:
            seconds = board.clock.monotonic() - progress.parked_since
            progress.parked_since, progress.parked_on = None, None
            board.emit(events.NodeUnparked(at=board.clock.now(), node=id, task=board.name(id), seconds=seconds))

    def _waited_too_long(self, id: int) -> bool:
        return self._lock_wait_seconds is not None and self._waited(id, self._lock_wait_seconds)

    def _waited(self, id: int, seconds: float) -> bool:
        since = self._board.progress[id].parked_since
        return since is not None and self._board.clock.monotonic() - since >= seconds

    def _timeout(self, id: int, holder: Holder) -> LockTimeout:
        return LockTimeout(
            f"{self._board.name(id)} waited {self._lock_wait_seconds:g} s for a result that somebody else computes",
            where=f"node {id}, key {holder.key}",
            because=f"it is held by {holder.described()}",
            hint="`penstock locks ls` shows who holds what; set lock_wait_seconds to wait longer",
        )
