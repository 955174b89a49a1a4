"""Explains planned calls by comparing each with the most similar earlier key of its task, and code with code notes.

Used by `plan` and `why`. Reads lazily: the earlier results of each task once, and only those that existed when the plan
was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock.clocks import Clock, moment
from penstock.digests.refs import Ref
from penstock.driver.effects.lookups import NEVER_COMPUTED, NO_RESULT_FOR_RECIPE
from penstock.errors import DigestError, StoreError
from penstock.explanations.code_notes import current_code_note, read_code_note
from penstock.explanations.earlier_inputs import EarlierInputs
from penstock.explanations.nearest import Earlier, records_of
from penstock.explanations.producers import other_environment
from penstock.explanations.wording import shortened, told_difference
from penstock.graph.code.changes import CodeChange, code_changes, told_changes
from penstock.graph.explained import Difference, Explanation, Reason, planned_reason
from penstock.graph.graphs import Entry, Graph, Node
from penstock.graph.keys import KeyTemplate
from penstock.graph.steps import Hit, NoHit, Status, Step
from penstock.storage.records.records import Producer, ResultRecord
from penstock.storage.results.code_notes import COMPONENTS
from penstock.storage.results.producers import this_process
from penstock.storage.results.store import ResultStore

_COMPARED_REASONS = (NEVER_COMPUTED, NO_RESULT_FOR_RECIPE)
"""Reasons of lookups that a comparison replaces by better ones."""
Steps = dict[int, Step]


class Explainer:
    """Explains the nodes of one plan."""

    def __init__(self, open_results: Callable[[Any], ResultStore], clock: Clock) -> None:
        self._open_results = open_results
        self._until = clock.now()
        self._here: Producer | None = None
        self._earlier: dict[tuple[str, Any], Earlier[ResultRecord]] = {}
        self._inputs = EarlierInputs(self._earlier_of)
        self._changes: dict[tuple[int, str, str], list[CodeChange] | None] = {}
        self._entries: dict[int, Entry] = {}  # kept alive, so that their ids stay unique

    def explain(self, graph: Graph, steps: Steps, node: Node) -> Explanation:
        """Return the reason for the node's status."""
        step = steps.get(node.id)
        template = node.entry.template
        decided = step is None or step.status in (Status.HIT, Status.PRUNED, Status.UNKNOWN) or node.entry.refresh
        if decided or template is None or step is None:
            return _said(planned_reason(step))
        if not node.cached:
            return _said("its key function says: do not cache this call")
        known = _known_answer(step)
        if known is not None:
            return _said(known)
        try:
            return self._compared(graph, steps, node, template, step)
        except (StoreError, DigestError) as error:
            return _said(step.reason, f"it could not be compared with earlier results: {error.what}")

    def _compared(self, graph: Graph, steps: Steps, node: Node, template: KeyTemplate, step: Step) -> Explanation:
        reasons = [] if step.reason in _COMPARED_REASONS else [Reason(step.reason)]
        earlier = self._earlier_of(node)
        call = _Call(graph, steps, node, template)
        found = earlier.nearest(call.components) if earlier else None
        if found is None:
            reasons = reasons or [Reason(NEVER_COMPUTED)]
            return Explanation([*reasons, *(Reason("", call.open_reason(name)) for name in call.open_inputs)])
        record, differences = found
        changes: list[CodeChange] = []
        for each in differences:
            if each.component in COMPONENTS and each.kind == "changed":
                told, changed = self._code(node.entry, each)
                reasons += told
                changes += changed
            elif each.component == "run_id":
                continue
            elif each.kind == "open" and each.component.startswith("inputs."):
                waits = call.open_reason(each.component.removeprefix("inputs."))
                reasons.append(Reason("" if reasons else waits, waits))  # the summary shows certain reasons first
            else:
                reasons.append(told_difference(each, node, call.sources, self._origin(graph, steps, node, each)))
        if not differences:
            reasons.append(Reason("a stored result has a key of the same components, but was made from another recipe"))
        if template.private:
            reasons.append(Reason("its policy contains RUN_ID, so runs share no results"))
        # The digests of equal code and values may depend on the environment: docs/keys.md, section 8.
        self._here = self._here or this_process()
        elsewhere = other_environment(record.producer, self._here) if differences else None
        return Explanation(
            reasons,
            record.key,
            record.created,
            differences,
            changes,
            [] if elsewhere is None else [shortened(elsewhere, 200)],
        )

    def _origin(self, graph: Graph, steps: Steps, node: Node, difference: Difference) -> str | None:
        scope, _, name = difference.component.partition(".")
        if scope != "inputs" or difference.kind != "changed" or difference.old is None:
            return None
        return self._inputs.origin(graph, steps, node, name, difference.old)

    def _earlier_of(self, node: Node) -> Earlier[ResultRecord]:
        task, storage = node.entry.task, node.entry.task.options.result_storage
        place = task.identity, storage
        if place not in self._earlier:
            records = records_of(self._open_results(storage), task.identity)
            self._earlier[place] = Earlier(record for record in records if record.created <= self._until)
        return self._earlier[place]

    def _code(self, entry: Entry, changed: Difference) -> tuple[list[Reason], list[CodeChange]]:
        """Return how the code changed; the same for all calls of a task."""
        place = id(entry), changed.old or "", changed.new or ""
        if place not in self._changes:
            self._entries[id(entry)] = entry
            self._changes[place] = self._code_changes(entry, changed)
        found = self._changes[place]
        if found is None:
            return [Reason("its code changed", "its code changed (there is no code note of the earlier code)")], []
        if not found:
            return [Reason("its code changed", "its code changed in a way that the code notes do not show")], []
        diffs = [change.diff for change in found]
        texts = list(told_changes(found))
        return [Reason(text, diff=diff) for text, diff in zip(texts, [*diffs, ""], strict=False)], found

    def _code_changes(self, entry: Entry, changed: Difference) -> list[CodeChange] | None:
        store = self._open_results(entry.task.options.result_storage).store
        old = read_code_note(store, changed.old or "")
        new = current_code_note(entry, changed.component, changed.new or "") if old is not None else None
        return None if old is None or new is None else code_changes(old, new)


class _Call:
    """The components of the key that a call would have, None for those not yet known, and the nodes it waits for."""

    def __init__(self, graph: Graph, steps: Steps, node: Node, template: KeyTemplate) -> None:
        self._graph = graph
        self._steps = steps
        self.open_inputs: dict[str, list[int]] = {}
        self.sources: dict[str, list[str]] = {}
        """The tasks whose results each input contains."""
        self.components = self._components(node, template)

    def open_reason(self, name: str) -> str:
        waits: dict[str, None] = {}
        parts: dict[str, None] = {}
        for node in self.open_inputs.get(name, ()):
            for source in self._tasks(node):
                (parts if self._is_known(source) else waits)[self._graph[source].name] = None
        if not waits:
            return f"input {name} is a part of the result of {', '.join(parts)}, which only a run takes"
        return f"input {name} is not known before {', '.join(waits)} has run"

    def _tasks(self, node: int) -> Sequence[int]:
        """Return the calls of tasks whose result or part of it a node is."""
        return self._graph.sources(node) if self._graph[node].entry.task.derived else (node,)

    def _is_known(self, node: int) -> bool:
        step = self._steps.get(node)
        return step is not None and isinstance(step.answer, Hit) and step.digest is not None and not step.runs

    def _components(self, node: Node, template: KeyTemplate) -> Mapping[str, Any]:
        if template.needs_values and not node.deps:
            return template.components(node.arguments) or {}
        components: dict[str, Any] = dict(template.static)
        # Components that depend on values are unknown as long as one of the values is.
        components |= {f"files({name})": None for name in template.file_parameters}
        if template.caller is not None:
            components["cache_key_fn"] = None
        if template.inputs is None:
            return components
        return {**components, "inputs": {name: self._digest(node, template, name) for name in template.inputs}}

    def _digest(self, node: Node, template: KeyTemplate, name: str) -> str | None:
        missing: list[int] = []
        sources: dict[str, None] = {}

        def resolve(ref: Ref) -> str:
            sources.update(dict.fromkeys(self._graph[task].name for task in self._tasks(ref.node)))
            if self._is_known(ref.node) and (digest := self._steps[ref.node].digest) is not None:
                return digest
            missing.append(ref.node)
            return "0" * 40

        found = template.input_digest(name, node.arguments[name], resolve).hex()
        self.sources[name] = list(sources)
        if missing:
            self.open_inputs[name] = missing
            return None
        return found


def _known_answer(step: Step) -> str | None:
    """Return the reason of the lookup if nothing needs to be compared, else None."""
    answer = step.answer
    if not isinstance(answer, NoHit) or step.reason != answer.reason:
        return None
    seen = getattr(answer.record, "seen", None)
    if isinstance(seen, ResultRecord) and seen.expires is not None and answer.reason == "expired":
        return f"expired at {moment(seen.expires)}"
    if answer.reason == "invalidated":
        redirect = getattr(answer.record, "redirect", None)
        return f"its result was removed ({redirect.reason})" if redirect is not None else answer.reason
    return None if answer.reason in _COMPARED_REASONS else answer.reason


def _said(*texts: str) -> Explanation:
    reasons: Sequence[Reason] = [Reason(text) for text in texts]
    return Explanation(reasons)
