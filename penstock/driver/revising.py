"""Revising: what happens if a value changes after other nodes of the run have used it.

This happens if stored bytes are lost and recomputing gives another value, or if another run refreshed it. Everything
that was computed from the old value is decided again, unless the flow has seen such a value: then the run fails, since
it could not continue with consistent values.
"""

from __future__ import annotations

from collections.abc import Iterable

from penstock.driver.state.run_state import RunState
from penstock.errors import ValuesChanged
from penstock.graph.steps import Status
from penstock.storage.records.records import ResultRecord
from penstock.worker.messages import Outcome


class Revision:
    """Tracks which values may have changed. Used by the driver's thread only."""

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._below: set[int] = set()

    def changed(self, now: Outcome) -> bool:
        """Return whether a recomputed value may differ from the earlier one."""
        before = self._run.progress[now.node].before
        if before is None or (before.digest is not None and before.digest == now.digest):
            return False
        if before.digest is None or now.digest is None:
            # Nobody knows, except that a part is the same as long as its result is.
            return not self._run.graph.nodes[now.node].entry.task.derived
        # A value without a stable digest is identified by its attempt, but may be equal nevertheless.
        return before.record is None or now.record is None or not _same_bytes(before.record, now.record)

    def outdated(self, changed: Iterable[int]) -> list[int]:
        """Return the nodes whose values were computed from one that changed, in order. They must be decided again."""
        run, steps = self._run, self._run.planner.steps
        first = set(changed)
        below = set(first)
        for node in run.graph.nodes[min(below) + 1 :]:
            if not below.isdisjoint(node.deps):
                below.add(node.id)
        self._below = below
        for id in sorted(below - first):
            if id not in steps or steps[id].status is Status.PRUNED:
                run.planner.forget(id)
        again = [id for id in sorted(below - first - self._of_no_use(below)) if run.over(id) and id in run.results]
        run.revised([*first, *again])  # values being computed from these are outdated, too
        return again

    def _of_no_use(self, below: Iterable[int]) -> set[int]:
        """Return the plain nodes whose values nobody wants any more, nor anything that is computed from them."""
        found, used = set(), set[int]()
        for id in sorted(below, reverse=True):
            node = self._run.graph.nodes[id]
            if node.cached or id in used or not self._run.over(id) or self._run.values.wanted(id):
                used.update(node.deps)
            else:
                found.add(id)
        return found

    def check_unseen(self, changed: Iterable[int]) -> None:
        """Raise `ValuesChanged` if the flow has seen a value that changed, or one computed from it.

        Call this when the old values can no longer be handed out, and before the new ones can be.
        """
        seen = self._below & self._run.handed_out
        if seen:
            raise self._seen(min(seen), min(changed))

    def _seen(self, seen: int, changed: int) -> ValuesChanged:
        run = self._run
        what = "it" if seen == changed else f"{run.name(seen)}, which was computed from it"
        kept = run.graph.nodes[changed].cached
        lost = "its stored bytes were lost or replaced" if kept else "it is not cached, and was computed a second time"
        return ValuesChanged(
            f"the result of {run.name(changed)} changed while the run was using it",
            where=f"node {changed}" + (f", node {seen}" if seen != changed else ""),
            because=f"{lost}, and the flow had already used {what}",
            hint="" if kept else "give the task a cache policy, so that its result is kept",
        )


def _same_bytes(one: ResultRecord, other: ResultRecord) -> bool:
    if one.payload is None or other.payload is None:
        return one.payload is other.payload and bytes(one.inline) == bytes(other.inline) and one.codec == other.codec
    return (one.codec, one.payload.checksum) == (other.codec, other.payload.checksum)
