"""`penstock why`: which part of a key changed, for every call of a flow that is no hit."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from penstock.cli.explaining import Difference, nearest
from penstock.cli.flow_help import FlowCommand
from penstock.cli.options import Invocation, json_option, shared_options
from penstock.cli.output import moment, output_for_people, print_document, say
from penstock.cli.producers import other_environment
from penstock.cli.run import TAKES_PARAMETERS, load_call, takes_flow
from penstock.cli.stored import records_of
from penstock.environments import Environment
from penstock.errors import UsageError
from penstock.graph.graphs import Node
from penstock.graph.hashing import digest
from penstock.graph.keys import KeyTemplate
from penstock.graph.planning import Hit, NoHit
from penstock.graph.plans import Plan, PlannedNode
from penstock.graph.refs import Ref
from penstock.storage.records import ResultRecord
from penstock.storage.results import this_process

COMPARED = 2_000
"""Earlier results of a task that are looked at, the latest ones."""
SHOWN = 5
"""Calls of a task that are shown, unless one task is asked for."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one call is what the plan says."""

    node: PlannedNode
    reasons: list[str]
    nearest_key: str | None = None
    """The key it was compared with."""
    differences: list[Difference] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "node": self.node.id,
            "task": self.node.task,
            "status": self.node.status,
            "key": self.node.key,
            "reasons": self.reasons,
            "nearest": self.nearest_key,
            "differences": [
                {"component": each.component, "kind": each.kind, "old": each.old, "new": each.new}
                for each in self.differences
            ],
        }


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
    """Say for each call that is no hit which part of its key changed.

    A last word names one task, or one node by its number in the plan; hits are explained then, too.
    """
    with output_for_people():
        flow, parameters, rest = load_call(invocation, target, words, assignments, document, further=1)
        plan = flow.plan_with(parameters, settings=invocation.settings())
    chosen = _chosen(plan, rest[0] if rest else None)
    # The flow's own store, as the plan looked into it.
    settings = invocation.settings()
    if flow.options.result_storage is not None:
        settings = settings.with_values(store=str(flow.options.result_storage))
    explainer = _Explainer(plan, Environment(settings))
    found = [explainer.explain(node) for node in chosen]
    if invocation.json:
        document_ = {"flow": plan.flow, "stopped_at": plan.stopped_at, "nodes": [each.to_dict() for each in found]}
        print_document("why", document_)
        return
    _print(plan, found, all_of_them=bool(rest))


def _chosen(plan: Plan, wanted: str | None) -> list[PlannedNode]:
    nodes = plan.nodes
    if wanted is None:
        return [node for node in nodes if node.status not in ("hit", "pruned")]
    found = [node for node in nodes if wanted in (node.task, str(node.id), plan.graph[node.id].entry.task.identity)]
    if not found:
        tasks = {node.task for node in nodes}
        close = difflib.get_close_matches(wanted, tasks, 1)
        hint = f"did you mean {close[0]}?" if close else f"its tasks are {', '.join(sorted(tasks))}"
        raise UsageError(f"no task or node of {plan.flow} is called {wanted}", hint=hint)
    return found


def _print(plan: Plan, found: Sequence[Explanation], *, all_of_them: bool) -> None:
    if not found:
        say(f"{plan.flow}: every result is there")
    by_task: dict[str, list[Explanation]] = {}
    for each in found:
        by_task.setdefault(each.node.task, []).append(each)
    for task, explanations in by_task.items():
        shown = explanations if all_of_them else explanations[:SHOWN]
        for each in shown:
            say(f"{task} (node {each.node.id}): {each.node.status}")
            for reason in each.reasons:
                say(f"    {reason}")
        if len(shown) < len(explanations):
            say(f"  … and {len(explanations) - len(shown)} more; name the task to see all")
    if plan.stopped_at is not None:
        say(f"the plan ends at {plan.stopped_at}: a value is needed there that is not cached")


class _Explainer:
    """Compares planned calls with what the store holds of their tasks."""

    def __init__(self, plan: Plan, environment: Environment) -> None:
        self._plan = plan
        self._environment = environment
        self._records: dict[tuple[str, Any], list[ResultRecord]] = {}

    def explain(self, planned: PlannedNode) -> Explanation:
        node = self._plan.graph[planned.id]
        template = node.entry.template
        if planned.status in ("hit", "pruned", "unknown") or template is None or node.entry.refresh:
            return Explanation(planned, [planned.reason])
        if not node.cached:
            return Explanation(planned, ["its key function says: do not cache this call"])
        parts, open_inputs = self._parts(node, template)
        known = self._known_answer(node)
        compared = None if known else nearest(parts, self._records_of(node))
        reasons = [known] if known else []
        if compared is not None:
            record, changes = compared
            reasons += [self._describe(change, node, open_inputs) for change in changes]
            if not changes:
                reasons.append("its parts are those of a stored result, but it was made from another recipe")
            if template.private:
                reasons.append("its policy holds the run's id: nothing is shared between runs")
            reasons.append(f"compared with {record_key(record)[:12]}, made {moment(record.created)}")
            elsewhere = None
            if changes and isinstance(record, ResultRecord):
                elsewhere = other_environment(record.producer, this_process())
            if elsewhere is not None:  # what equal code and values digest to may depend on it: docs/keys.md, section 8
                reasons.append(elsewhere)
            return Explanation(planned, reasons, record_key(record), changes)
        if not known:
            reasons.append("never computed before")
        reasons += [_open(name, nodes, self._plan) for name, nodes in open_inputs.items()]
        return Explanation(planned, reasons)

    def _known_answer(self, node: Node) -> str | None:
        """What the look-up itself said, where that is all there is to say."""
        answer = self._plan.steps[node.id].answer
        if not isinstance(answer, NoHit):
            return None
        seen = getattr(answer.record, "seen", None)
        if isinstance(seen, ResultRecord) and seen.expires is not None and answer.reason == "expired":
            return f"expired at {moment(seen.expires)}"
        if answer.reason == "invalidated":
            redirect = getattr(answer.record, "redirect", None)
            return f"its result was removed ({redirect.reason})" if redirect is not None else answer.reason
        # These two are what the comparison explains.
        return None if answer.reason in ("never computed", "no result for this recipe") else answer.reason

    def _parts(self, node: Node, template: KeyTemplate) -> tuple[dict[str, Any], dict[str, list[int]]]:
        """The parts of the key the call would have, None for inputs not known yet, and the nodes these come from."""
        open_inputs: dict[str, list[int]] = {}
        if template.needs_values and not node.deps:
            return template.parts(node.arguments) or {}, open_inputs
        parts: dict[str, Any] = dict(template.static)
        # What is made from values is open as long as one of them is.
        parts |= {f"files({name})": None for name in template.file_parameters}
        if template.caller is not None:
            parts["cache_key_fn"] = None
        if template.inputs is None:
            return parts, open_inputs
        inputs: dict[str, str | None] = {}
        for name in template.inputs:
            missing: list[int] = []
            inputs[name] = self._digest(node.arguments[name], name, missing)
            if inputs[name] is None:
                open_inputs[name] = missing
        return {**parts, "inputs": inputs}, open_inputs

    def _digest(self, value: Any, name: str, missing: list[int]) -> str | None:
        def resolve(ref: Ref) -> str:
            step = self._plan.steps.get(ref.node)
            if step is not None and isinstance(step.answer, Hit) and step.digest is not None:
                return step.digest
            missing.append(ref.node)
            return "0" * 40

        found = digest(value, resolve, where=f"arguments[{name!r}]", name=name)
        return None if missing else found

    def _records_of(self, node: Node) -> list[ResultRecord]:
        task, storage = node.entry.task, node.entry.task.options.result_storage
        place = (task.identity, str(storage))
        if place not in self._records:
            results = self._environment.results(storage)
            self._records[place] = list(records_of(results, task.identity, limit=COMPARED))
        return self._records[place]

    def _describe(self, change: Difference, node: Node, open_inputs: Mapping[str, list[int]]) -> str:
        scope, _, name = change.component.partition(".")
        if scope != "inputs":
            return str(change)
        if change.kind == "open":
            return _open(name, open_inputs[name], self._plan)
        value = node.arguments.get(name)
        text = repr(value)
        return f"{change}" if isinstance(value, Ref) or len(text) > 60 else f"{change} ({text})"


def record_key(record: Any) -> str:
    """The key of a record that was compared with."""
    return str(record.key)


def _open(name: str, nodes: Sequence[int], plan: Plan) -> str:
    sources = dict.fromkeys(plan.graph[node].name for node in nodes)
    return f"inputs.{name} is not known before {', '.join(sources)} has run"
