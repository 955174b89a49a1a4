"""Parcels: the contents of messages to an engine, which are nodes as calls, and tasks in the form workers need."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence

from penstock.digests.python import digest_bytes
from penstock.digests.refs import holds_code
from penstock.driver.dispatching.pipelining import Pipelining
from penstock.driver.state.progress import Progress
from penstock.driver.state.run_state import RunState
from penstock.errors import DigestError
from penstock.graph.arguments import SMALL
from penstock.graph.graphs import Entry, Node
from penstock.locks.single_flight import FlightOf
from penstock.worker.messages import Call, ShippedTask
from penstock.worker.witnesses import check_arguments


class Parcels:
    """Creates the messages of one run. Fencing tokens are filled in later, by the holder of the locks."""

    def __init__(self, run: RunState, *, pipelining: Pipelining, flight_of: FlightOf, main: str) -> None:
        """`main` is the importable name of the driver's `__main__`."""
        self._run = run
        self._pipelining = pipelining
        self._flight_of = flight_of
        self._main = main
        self._shipped_tasks: dict[Entry, ShippedTask] = {}
        self._unknown: dict[int, tuple[ShippedTask, Entry]] = {}  # by number: those not yet sent to the engine

    def calls(self, ids: Sequence[int]) -> list[Call]:
        """Return the calls of a bundle."""
        inside = set(ids) if len(ids) > 1 else set()
        calls = [self._call(id, inside) for id in ids]
        calls[0].promised = len(ids) == 1 and self._pipelining.promises(ids[0])
        inner_uses = Counter(d for call in calls for d in call.inner)
        for call in calls:
            if uses := inner_uses[call.node]:
                call.passes_on = True
                call.keep = self._run.values.wanted(call.node, uses)
        return calls

    def unknown(self, calls: Iterable[Call]) -> list[ShippedTask]:
        """Return the tasks of these calls that the engine does not know yet."""
        if not self._unknown:
            return []
        numbers = {call.task: None for call in calls}
        return [self._unknown[number][0] for number in numbers if number in self._unknown]

    def known(self, shipped_tasks: Iterable[ShippedTask]) -> list[Entry]:
        """Mark tasks as known to the engine, and return their entries."""
        return [self._unknown.pop(shipped_task.number)[1] for shipped_task in shipped_tasks]

    def _shipped_task(self, node: Node) -> ShippedTask:
        shipped_task = self._shipped_tasks.get(node.entry)
        if shipped_task is None:
            shipped_task = ShippedTask(
                number=len(self._shipped_tasks),
                task=node.entry.task.for_workers(),
                template=node.entry.template,
                flow=node.entry.flow,
                log_prints=node.entry.log_prints,
                main=self._main,
                serializable=self._flight_of(node).required,
                store=node.entry.task.options.result_storage,
                transaction=node.entry.transaction,
            )
            self._shipped_tasks[node.entry] = shipped_task
            self._unknown[shipped_task.number] = shipped_task, node.entry
        return shipped_task

    def _call(self, id: int, inside: set[int]) -> Call:
        run = self._run
        node, progress = run.graph.nodes[id], run.progress[id]
        call = Call(
            node=id,
            attempt=progress.attempt,
            task=self._shipped_task(node).number,
            arguments=node.arguments,
            inputs={},
            lent=run.graph.lent.get(id, ()),
            attempt_id=run.cohorts.attempt_id(),
            keep=True,
            style=node.style,
            context=node.context,
        )
        if node.deps:
            self._fill_in_inputs(call, node, inside)
        if node.order and inside:
            call.after = tuple(n for n in node.order if n in inside)
        if run.graph.large:
            call.large = run.graph.large.get(id, ())
        if node.entry.template is not None:
            self._fill_in_keys(call, node, progress)
        if not node.cached:
            before, dependents = progress.before, run.scheduler.dependents(id)
            compared = before is not None and before.digest is not None
            call.digest = compared or any(run.graph.nodes[d].cached for d in dependents)
        return call

    def _fill_in_inputs(self, call: Call, node: Node, inside: set[int]) -> None:
        ahead, deps = self._pipelining, node.deps
        self._run.set_out(node.id)
        call.inputs = {d: ahead.input(d, node.id) for d in deps}
        if inside:
            call.inner = tuple(d for d in deps if d in inside)
        expiries = [e for d in deps if d not in inside and (e := ahead.expires(d)) is not None]
        if expiries:
            call.upstream_expires = min(expiries)

    def _fill_in_keys(self, call: Call, node: Node, progress: Progress) -> None:
        for each in call.large if node.cached else ():
            with contextlib.suppress(DigestError):  # the worker reports it if the digest is needed
                each.digest(digest_bytes)  # once here instead of for each call on a worker
        call.cache_key, call.seen = progress.key, progress.seen
        call.owns_task = bool(call.inner) and progress.key is None
        call.witness = self._run.graph.witnesses.get(node.id)
        template = node.entry.template
        assert template is not None
        if template.code_witness is not None:
            template.code_witness.check(node.name)
        if call.witness is not None:
            check_arguments(call, template, node.name)
        if not SMALL.issuperset(map(type, call.arguments.values())) and holds_code(call.arguments):
            call.digested = template.digested(call.arguments)
        call.recipe_key = node.recipe_key if node.deps and self._run.follows_recipe(node.id) else None
        call.keep = not node.cached or self._run.values.wanted(node.id)
