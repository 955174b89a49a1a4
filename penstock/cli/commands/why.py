"""`penstock why`: which component of a key changed, for every call of a flow that is no hit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from penstock.cli.commands.run import TAKES_PARAMETERS, load_call, takes_flow
from penstock.cli.flow_help import FlowCommand
from penstock.cli.options import Invocation, json_option, shared_options
from penstock.cli.output import moment, output_for_people, print_document, say
from penstock.errors import UsageError
from penstock.graph.explained import Explanation
from penstock.graph.plans import Plan, PlannedNode
from penstock.objects.texts import did_you_mean

SHOWN = 5
"""Kinds of calls of a task that are shown, unless one task is asked for."""
NODES_SHOWN = 3
"""Calls that have the same reasons, of which what is of each alone is shown."""


@dataclass(frozen=True, slots=True)
class _Explained:
    """A call, and why it is what the plan says."""

    node: PlannedNode
    why: Explanation

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "node": self.node.id,
            "task": self.node.task,
            "status": self.node.status,
            "key": self.node.key,
            "reasons": self.lines,
            "nearest": self.why.nearest_key,
            "differences": [each.to_dict() for each in self.why.differences],
        }

    @property
    def lines(self) -> list[str]:
        return [*(reason.whole for reason in self.why.reasons), *self.why.notes]


@click.command(cls=FlowCommand, context_settings=TAKES_PARAMETERS)
@takes_flow
@json_option
@shared_options
@click.pass_obj
def why(
    invocation: Invocation,
    target: str,
    words: tuple[str, ...],
    assignments: tuple[str, ...],
    document: str | None,
) -> None:
    """Show which component of the key changed, for each call that is not a hit.

    Add the name of a task, or the number of a node in the plan, to explain only that one, including hits.
    """
    with output_for_people():
        flow, parameters, rest = load_call(invocation, target, words, assignments, document, further=1)
        plan = flow.plan_with(parameters, settings=invocation.settings())
    found = [_Explained(node, plan.explain(node.id)) for node in _chosen(plan, rest[0] if rest else None)]
    if invocation.json:
        changes = {task: [each.to_dict() for each in changed] for task, changed in plan.changes.items()}
        nodes = [each.to_dict() for each in found]
        print_document("why", {"flow": plan.flow, "stopped_at": plan.stopped_at, "changes": changes, "nodes": nodes})
        return
    _print(plan, found, all_of_them=bool(rest))


def _chosen(plan: Plan, wanted: str | None) -> list[PlannedNode]:
    nodes = plan.nodes
    calls = [node for node in nodes if not plan.graph[node.id].entry.task.derived]
    if wanted is None:
        return [node for node in calls if node.status not in ("hit", "pruned")]
    found = [node for node in nodes if wanted in (node.task, str(node.id), plan.graph[node.id].entry.task.identity)]
    if not found:
        tasks = {node.task for node in calls}
        hint = did_you_mean(wanted, tasks, f"its tasks are {', '.join(sorted(tasks))}")
        raise UsageError(f"{plan.flow} has no task or node {wanted}", hint=hint)
    return found


def _print(plan: Plan, found: Sequence[_Explained], *, all_of_them: bool) -> None:
    if not found:
        say(f"{plan.flow}: every result is stored")
    # Once for all calls of a task that have the same reasons.
    by_task: dict[str, dict[tuple[str, str], list[_Explained]]] = {}
    for each in found:
        kind = each.node.status, each.why.summary
        by_task.setdefault(each.node.task, {}).setdefault(kind, []).append(each)
    told: set[str] = set()
    for task, kinds in by_task.items():
        shown = list(kinds.items()) if all_of_them else list(kinds.items())[:SHOWN]
        for (status, _), alike in shown:
            _print_alike(task, status, alike, told)
        left = sum(len(alike) for _, alike in list(kinds.items())[len(shown) :])
        if left:
            say(f"  … and {left} more; name the task to see all")
    if plan.stopped_at is not None:
        say(f"the plan ends at {plan.stopped_at}: the flow needs a value there that is not cached")


def _print_alike(task: str, status: str, alike: Sequence[_Explained], told: set[str]) -> None:
    """Calls with the same reasons. What was shown of changed code before is not shown again."""
    first = alike[0]
    which = f"node {first.node.id}" if len(alike) == 1 else f"{len(alike)} nodes"
    say(f"{task} ({which}): {status}")
    for number, reason in enumerate(first.why.reasons):
        each_says = [each.why.reasons[number].whole for each in alike if number < len(each.why.reasons)]
        if len(set(each_says)) == 1:
            say(f"    {each_says[0]}")
        else:
            say(f"    {reason.text or reason.whole}")
            for each, said in list(zip(alike, each_says, strict=False))[:NODES_SHOWN]:
                say(f"        node {each.node.id}: {said}")
        if reason.diff and reason.diff not in told:
            told.add(reason.diff)
            for line in reason.diff.splitlines():
                say(f"        {line}")
    for note in first.why.notes:
        say(f"    {note}")
    if first.why.nearest_key is not None:
        say(f"    compared with {first.why.nearest_key[:12]}, made {moment(first.why.nearest_created)}")
