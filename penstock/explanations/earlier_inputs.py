"""Finds out why an input that comes from another task is another one: that task's result changed, or its call did."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from penstock.digests.refs import Ref
from penstock.explanations.components import differences
from penstock.graph.graphs import Graph, Node
from penstock.graph.steps import Hit, Step
from penstock.storage.records.records import ResultRecord


class EarlierInputs:
    """Finds the earlier results of tasks whose digests are those of inputs of earlier keys."""

    def __init__(self, records_of: Callable[[Node], Iterable[ResultRecord]]) -> None:
        """`records_of` returns the earlier results of a node's task."""
        self._records_of = records_of
        self._found: dict[tuple[int, str, int], dict[str, list[ResultRecord]]] = {}
        self._by_key: dict[int, dict[str, ResultRecord]] = {}
        self._kept: list[object] = []  # alive, so that their ids stay unique

    def origin(self, graph: Graph, steps: dict[int, Step], node: Node, name: str, old: str) -> str | None:
        """Return `call` if an input is now the result of a call with other inputs, `result` if that call's changed.

        Args:
            graph: The graph of the plan.
            steps: The decisions of the plan.
            node: The call that gets the input.
            name: The parameter.
            old: The digest of the argument in the earlier key.

        Returns:
            None if the earlier result is unknown, or the argument consists of more than one result.
        """
        ref = node.arguments[name]
        step = steps.get(ref.node) if type(ref) is Ref else None
        if step is None or not isinstance(step.answer, Hit):
            return None
        source = graph[ref.node]
        earlier = self._giving(node, name, ref, source).get(old, ())
        now = self._by_key[id(source.entry)].get(step.answer.cache_key)
        if now is None or not earlier:
            return None
        return "result" if any(_same_call(record, now) for record in earlier) else "call"

    def _giving(self, node: Node, name: str, ref: Ref, source: Node) -> dict[str, list[ResultRecord]]:
        """Return the earlier results of the source's task by the digest that an input has which is one of them."""
        template = node.entry.template
        assert template is not None  # the call has a key
        place = id(node.entry), name, id(source.entry)
        found = self._found.get(place)
        if found is None:
            found = self._found[place] = {}
            self._kept += [node.entry, source.entry]
            by_key = self._by_key[id(source.entry)] = {}
            for record in self._records_of(source):
                by_key[record.key] = record
                digest = template.input_digest(name, ref, lambda _, record=record: record.digest).hex()  # type: ignore[misc]
                found.setdefault(digest, []).append(record)
        return found


def _same_call(one: ResultRecord, other: ResultRecord) -> bool:
    """Return whether two results of a task were computed from the same inputs."""
    found = differences(one.key_parts, other.key_parts)
    return not any(each.component.startswith(("inputs.", "flow_parameters.")) for each in found)
