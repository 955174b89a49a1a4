"""Admission: the checks that a ready node must pass before it is submitted to a runner.

inputs available? → cache key → computed by another node of this run? → lookup → lock → a permit of each limit
→ a start of each rate
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from penstock.driver.dispatching.fusion import Fusion
from penstock.driver.instructions import LookUp, NoteRecipe, Out, ReadLimits, Release, Steps
from penstock.driver.limits import Limits
from penstock.driver.locking import Locking
from penstock.driver.rates import Rates
from penstock.driver.recipes import earliest_expiry, recipe_entry
from penstock.driver.state.run_state import RunState
from penstock.errors import PenstockError
from penstock.graph.steps import Hit, NoAnswer, Query
from penstock.locks.base import LockOutcome
from penstock.worker.messages import Outcome


@dataclass(slots=True)
class Admitted:
    """The result for a batch of ready nodes. Nodes in none of the lists are parked."""

    run: list[int] = field(default_factory=list)
    hits: list[Outcome] = field(default_factory=list)
    lacking: list[tuple[int, list[int]]] = field(default_factory=list)
    """Nodes with those of their inputs whose value is missing."""
    waited: list[tuple[int, PenstockError]] = field(default_factory=list)
    """Nodes whose wait for another holder timed out or could never end."""


class Admission:
    """Decides ready nodes in batches: one lookup round and one lock call for all of them."""

    def __init__(
        self, run: RunState, out: Out, *, fusion: Fusion, locking: Locking, limits: Limits, rates: Rates
    ) -> None:
        self._run = run
        self._out = out
        self._fusion = fusion
        self._locking = locking
        self._limits = limits
        self._rates = rates
        self._leaders: dict[str, int] = {}
        self._followers: dict[str, list[int]] = {}

    def admit(self, ready: Iterable[int]) -> Steps[Admitted]:
        """Decide these nodes as far as possible now."""
        run, admitted = self._run, Admitted()
        leaders = [id for id in ready if not run.graph.nodes[id].cached or self._leads_its_key(id)]
        errors = self._locking.around_themselves(leaders)
        if errors:
            leaders = [id for id in leaders if id not in errors]
            admitted.waited += errors.items()
        hits = yield from self._hits(leaders)
        to_run = []
        for id in leaders:
            if id in hits:
                continue
            absent = run.values.absent(id)
            if absent:
                admitted.lacking.append((id, absent))
            else:
                to_run.append(id)
        locked, waited = yield from self._locking.lock(to_run)
        admitted.hits, admitted.run = list(hits.values()), locked
        admitted.waited += waited
        if any(run.progress[id].limited for id in locked):
            admitted.run = yield from self._within_limits(locked)
        for id in hits:
            self._locking.unpark(id)
        for id in admitted.run:
            self._locking.unpark(id)
            run.admit(id)
        return admitted

    def rest(self, id: int) -> None:
        """Release the node's permits of limits until its next attempt."""
        self._limits.release(id)

    def leave(self, id: int) -> None:
        """Wake other nodes of this run that wait for the key of a node that is over or will be decided again."""
        self._limits.release(id)
        key = self._run.progress[id].key
        if key is None or self._leaders.get(key) != id:
            return
        del self._leaders[key]
        for follower in self._followers.pop(key, ()):
            self._run.wake(follower)

    def over(self, id: int, lock_outcome: LockOutcome) -> None:
        """Do what `leave` does for a node that is over, and release its lock."""
        self._locking.release(id, lock_outcome)
        self.leave(id)

    def forget(self, id: int) -> None:
        """Discard the key and lock of a node whose inputs are recomputed and may change."""
        self.over(id, "abandoned")
        self._run.key_forgotten(id)

    def abandon(self, ids: Iterable[int]) -> None:
        """Give up these nodes of a cancelled run, and all waiting."""
        self._followers.clear()
        self._leaders.clear()
        for id in ids:
            self._limits.release(id)
            self._locking.release(id, "abandoned")
        self._locking.clear()
        self._limits.clear()
        self._rates.clear()

    def let_locks_go(self, ids: Iterable[int]) -> None:
        """Release the locks of nodes that the engine will return, so that others need not wait for them."""
        for id in ids:
            self._locking.release(id, "abandoned")

    def give_all_up(self) -> None:
        """Release all locks and permits of a run that cannot continue."""
        leased = [id for id, progress in self._run.progress.items() if progress.leased]
        self._out.extend(Release(holder, "abandoned") for holder in (*leased, *self._limits.held()))

    def woken(self, key: str) -> Steps[None]:
        """Wake the nodes that wait for a key, whose holder may be done."""
        limited, rated = self._limits.knows(key), self._rates.knows(key)
        if limited or rated:
            in_force = yield ReadLimits()
            (self._limits if limited else self._rates).woken(key, in_force)
        else:
            self._locking.woken(key)

    def _leads_its_key(self, id: int) -> bool:
        run = self._run
        if run.outdated(id):
            self.forget(id)
        key = run.key_found(id)
        if key is None:
            return True  # only the worker, which has the values, can compute it
        if self._fusion.must_wait(id):
            run.park(id)
            return False
        if self._leaders.setdefault(key, id) == id:
            return True
        self._followers.setdefault(key, []).append(id)
        run.park(id)
        return False

    def _hits(self, ids: Iterable[int]) -> Steps[dict[int, Outcome]]:
        run, progress = self._run, self._run.progress
        asked = [id for id in ids if progress[id].key is not None and not progress[id].looked_up]
        hits: dict[int, Outcome] = {}
        if not asked:
            return hits
        queries = [Query(id, run.graph.nodes[id].entry.task.identity, progress[id].key, None) for id in asked]
        for id, answer in zip(asked, (yield LookUp(queries)), strict=True):
            refresh, seen = run.graph.nodes[id].entry.refresh, progress[id].seen
            run.looked_up(id)
            if isinstance(answer, NoAnswer) and refresh and seen is None:
                run.must_not_use(id, answer.generation)
            if not isinstance(answer, Hit):
                continue
            if refresh and seen is None and not run.cohorts.made_earlier(answer.record):
                run.must_not_use(id, answer.record.generation)
            elif answer.record.generation != seen:
                hits[id] = self._hit(id, answer)
        return hits

    def _hit(self, id: int, hit: Hit) -> Outcome:
        run, node = self._run, self._run.graph.nodes[id]
        expires = earliest_expiry(run, node, hit)
        entry = recipe_entry(run, node, hit, expires)
        if entry is not None:
            self._out.append(NoteRecipe(node.entry.task.options.result_storage, entry))
        attempt = run.progress[id].attempt
        return Outcome(id, attempt, "hit", hit.cache_key, hit.digest, hit.record, expires=expires)

    def _within_limits(self, ids: list[int]) -> Steps[list[int]]:
        """Return the nodes that have all permits and starts they need. The others are parked."""
        in_force = yield ReadLimits()
        permitted = yield from self._limits.acquire(ids, in_force)
        run, parked = yield from self._rates.use(permitted, in_force)
        for id in parked:
            self._limits.release(id)  # never wait for one kind while holding another
        return run
