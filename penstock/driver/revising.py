"""Revising: what follows when a value that others of the run have used turns out to be another one.

That happens when stored bytes are lost and the value comes out differently when it is made again, or when somebody
refreshed it meanwhile. Whatever was made from the old value is decided anew, unless the flow has seen it: then the run
ends, since no value that it could go on with would belong to those it has.
"""

from __future__ import annotations

from collections.abc import Iterable

from penstock.driver.state.run_state import RunState
from penstock.driver.state.values import Result
from penstock.errors import ValuesChanged
from penstock.graph.steps import Status
from penstock.storage.records.records import ResultRecord
from penstock.worker.messages import Outcome


class Revision:
    """Knows which values may have changed. Touched by the driver's thread only."""

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._before: dict[int, Result] = {}  # of values that are made again
        self._below: set[int] = set()

    def made_again(self, id: int) -> None:
        """The node has a value and runs again."""
        self._before.setdefault(id, self._run.results[id])

    def changed(self, now: Outcome) -> bool:
        """Whether a node that has a value again has another one than before."""
        before = self._before.pop(now.node, None) if self._before else None
        if before is None or before.digest is None or now.digest in (None, before.digest):
            return False
        # What has no stable digest is known by its attempt, and may be the same nevertheless.
        return before.record is None or now.record is None or not _same_bytes(before.record, now.record)

    def outdated(self, changed: Iterable[int]) -> list[int]:
        """The nodes that have a value made from one that changed, in order; they have to be decided anew."""
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
        again = [id for id in sorted(below - first) if run.over(id) and id in run.results]
        run.revised([*first, *again])  # what is made of these just now is outdated too
        return again

    def check_unseen(self, changed: Iterable[int]) -> None:
        """Raise `ValuesChanged` if the flow has seen a value that changed, or one that was outdated by it.

        To be called when these can be handed out no more, and before the new ones can be.
        """
        seen = self._below & self._run.handed_out
        if seen:
            raise self._seen(min(seen), min(changed))

    def _seen(self, seen: int, changed: int) -> ValuesChanged:
        run = self._run
        what = "the flow has used it" if seen == changed else f"the flow has used {run.name(seen)}, made from it,"
        return ValuesChanged(
            f"the result of {run.name(changed)} is not what it was when the run began to use it",
            where=f"node {changed}" + (f", node {seen}" if seen != changed else ""),
            because=f"its stored bytes were lost or replaced, it came out differently, and {what} already",
        )


def _same_bytes(one: ResultRecord, other: ResultRecord) -> bool:
    if one.payload is None or other.payload is None:
        return one.payload is other.payload and bytes(one.inline) == bytes(other.inline) and one.codec == other.codec
    return (one.codec, one.payload.checksum) == (other.codec, other.payload.checksum)
