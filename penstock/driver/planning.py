"""Planning: how nodes get a value, which is by a hit, by running, or by recomputing lost and released values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from penstock import events as log
from penstock.driver.admission import Admission
from penstock.driver.completion import Completion
from penstock.driver.events import Extend
from penstock.driver.instructions import LookUp, NoteRecipe, Out, ReadLimits, Steps, Tell, forget
from penstock.driver.recipes import earliest_expiry, recipe_entry
from penstock.driver.revising import Revision
from penstock.driver.state.run_state import RunState
from penstock.errors import DamagedResult, StoreUnreachable
from penstock.graph.graphs import Entry
from penstock.graph.steps import Hit, NoAnswer, Status
from penstock.worker.failures import describe
from penstock.worker.messages import NO_GENERATION, Outcome

MAX_REMAKES = 3
"""How many times an unreadable value is recomputed."""


class Planning:
    """Turns requested values into nodes that run."""

    def __init__(
        self, run: RunState, out: Out, *, admission: Admission, completion: Completion, recompute_unknown: bool
    ) -> None:
        """With `recompute_unknown`, a node runs if the store does not answer whether it has a result."""
        self._run = run
        self._out = out
        self._admission = admission
        self._completion = completion
        self._recompute_unknown = recompute_unknown
        self._revision = Revision(run)
        self.stopped = False
        """Whether the run is cancelled, so that nothing may run any more."""

    def extend(self, event: Extend) -> Steps[None]:
        """Plan what was traced since the last call."""
        run, values = self._run, self._run.values
        before, upto = values.planned, event.upto
        targets = [t for t in run.graph.outputs(before, values.held) if t < upto]
        values.planned = max(before, upto)
        yield from self.bring([*targets, *event.want])
        # Values that were kept for these nodes only, and are not needed.
        forget(self._out, values.let_go(dep for node in run.graph.nodes[before:upto] for dep in node.deps))

    def bring(self, ids: Sequence[int]) -> Steps[None]:
        """Provide these nodes with values."""
        run, planner, counters = self._run, self._run.planner, self._run.planner.counters
        new = [id for id in ids if planner.lacks_value(id)]
        for id in ids:
            if run.over(id) and not run.values.there(id) and run.error(id) is None:
                yield from self._run_again(id, "its value was released", compare=True)
        if not new:
            return
        before = (counters.rounds, counters.lookups)
        yield from self._plan(new)
        if planner.revised:
            yield from self.revise(planner.revised)
        fresh = sorted(planner.fresh)
        yield from self._read_limits(id for id in fresh if planner.steps[id].runs)
        for id in fresh:
            self._schedule(id)
        for id in planner.reconciled():
            hit = planner.steps[id].answer
            assert isinstance(hit, Hit)  # it was found by its recipe
            # Records that it agrees with this run's values, so that the next run need not compare them.
            self._note_recipe(id, hit, hit.expires, told=False)
        self._tell_plan(fresh, counters.rounds - before[0], counters.lookups - before[1])

    def decide_again(self, id: int, needs: Sequence[int]) -> Steps[None]:
        """Let a node wait for inputs that must be computed, and discard its key."""
        self._admission.forget(id)
        yield from self.bring(needs)
        self._completion.skip(self._run.decide_again(id, needs), id)

    def changed(self, outcome: Outcome) -> bool:
        """Return whether a recomputed value differs from the earlier one. If so, `revise` must follow."""
        return self._revision.changed(outcome)

    def revise(self, changed: Sequence[int]) -> Steps[None]:
        """Decide again all nodes whose values were computed from values that have changed."""
        for id in changed:
            self._run.take_hit_back(id)
        for id in self._revision.outdated(changed):
            yield from self._run_again(id, "an input changed when it was recomputed")
        self._revision.check_unseen(changed)

    def remake(self, id: int, reason: str, generation: int | None) -> Steps[None]:
        """Run a node with an unusable stored value again, with everything that was pruned above it."""
        run, result = self._run, self._run.results.get(id)
        if result is None or (result.record is not None and generation not in (None, result.record.generation)):
            return  # already recomputed
        self._out.append(Tell(log.NodeRevived(at=run.now.at, node=id, task=run.name(id), reason=reason)))
        yield from self._run_again(id, reason, compare=True)
        run.must_not_use(id, generation)

    def input_lost(self, id: int, lost: Mapping[int, int]) -> Steps[None]:
        """Recompute inputs whose values, of the given generations, could not be read."""
        run = self._run
        made_since = run.progress[id].key_age != run.ages.of_inputs(id)
        for node, generation in lost.items():
            if generation == NO_GENERATION and made_since:
                continue  # already recomputed for another node
            if run.ages.remade.get(node, 0) >= MAX_REMAKES:
                error = DamagedResult(
                    f"the result of {run.name(node)} cannot be read back",
                    where=f"node {node}, needed by node {id}",
                    because=f"it was computed {MAX_REMAKES + 1} times, and each time its bytes were missing or damaged",
                    hint="check whether another program writes to the store; `penstock cache verify` checks all of it",
                )
                self._completion.fail(id, describe(error))
                return
            stored = generation != NO_GENERATION
            reason = "its stored bytes are missing or damaged" if stored else "its value is lost"
            yield from self.remake(node, reason, generation)
        yield from self.decide_again(id, list(lost))

    # -- inside ---------------------------------------------------------------------------------------------------

    def _plan(self, targets: Sequence[int]) -> Steps[None]:
        """Plan the targets, passing the planner's queries on."""
        rounds, answers = self._run.planner.plan(targets), None
        while True:
            try:
                queries = rounds.send(answers) if answers is not None else next(rounds)
            except StopIteration:
                return
            answers = yield LookUp(queries)

    def _run_again(self, id: int, reason: str, *, compare: bool = False) -> Steps[None]:
        """Run a node again. With `compare`, what was computed from its value stays unless the new one may differ."""
        yield from self._read_limits([id])
        self._completion.skip(self._run.made_again(id, reason, compare=compare), id)

    def _read_limits(self, ids: Iterable[int]) -> Steps[None]:
        """Read which tags are limited, if any of these nodes has tags."""
        if any(self._run.graph.nodes[id].entry.task.options.tags for id in ids):
            in_force = yield ReadLimits()
            self._run.limits_are(in_force.at_once.keys() | in_force.rates.keys())

    def _schedule(self, id: int) -> None:
        run, step = self._run, self._run.planner.steps[id]
        answer = step.answer
        if isinstance(answer, NoAnswer) and answer.generation is not None:
            raise answer.error  # whatever `on_unknown` says, so as not to hide that others wrote to the store
        if step.status is Status.UNKNOWN and not self._recompute_unknown:
            raise StoreUnreachable(
                f"the store did not answer whether it has a result of {run.name(id)}",
                because=str(getattr(answer, "error", "")),
                hint='run it again when the store is reachable, or set on_unknown="recompute" to compute it anyway',
            )
        if step.status is Status.PRUNED:
            return  # only looked up to compare other decisions
        if isinstance(answer, Hit) and not step.runs:
            run.note_hit(id, answer)
            if run.planner.found_by_content(id):
                self._note_recipe(id, answer, earliest_expiry(run, run.graph.nodes[id], answer), told=True)
        elif not self.stopped:
            self._completion.skip(run.needed(id), id)

    def _note_recipe(self, id: int, hit: Hit, expires: float | None, *, told: bool) -> None:
        node = self._run.graph.nodes[id]
        entry = recipe_entry(self._run, node, hit, expires)
        if entry is not None:
            self._out.append(NoteRecipe(node.entry.task.options.result_storage, entry, told))

    def _tell_plan(self, fresh: Iterable[int], rounds: int, lookups: int) -> None:
        run = self._run
        tally = dict.fromkeys(("hit", "miss", "bypass", "unknown"), 0)
        calls: dict[Entry, int] = {}
        for id in fresh:  # so that tasks are in the order of their first calls
            status, entry = run.planner.steps[id].status, run.graph.nodes[id].entry
            if status is Status.PRUNED or entry.task.derived:
                continue
            tally[str(status)] += 1
            if status is not Status.HIT:
                calls[entry] = calls.get(entry, 0) + 1
        tasks: dict[str, int] = {}
        for entry, count in calls.items():
            tasks[entry.task.name] = tasks.get(entry.task.name, 0) + count
        event = log.NodesPlanned(
            at=run.now.at, nodes=run.values.planned, rounds=rounds, lookups=lookups, tasks=tasks, **tally
        )
        self._out.append(Tell(event))
