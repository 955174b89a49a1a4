"""Plan: what a run would do, as text, as HTML for notebooks and as a dict for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.graph.explained import Explains, Explanation, Reason, planned_reason
from penstock.graph.graphs import Graph, Node
from penstock.graph.steps import Counters, Hit, NoHit, Status, Step

if TYPE_CHECKING:
    from penstock.graph.code.changes import CodeChange

SHOWN_REASONS = 4


@dataclass(frozen=True, slots=True, eq=False)
class PlannedNode:
    """One node of a plan."""

    id: int
    task: str
    status: str
    """hit, miss, pruned, bypass or unknown."""
    reason: str
    key: str | None
    """The cache key; None if it depends on values that are not known before the run."""
    size: int | None
    """The size of the stored result in bytes, for hits."""
    seconds: float | None
    """The duration of its last execution: what a hit saves, or what a miss is expected to take."""
    deps: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the node as JSON-compatible data."""
        return {name: getattr(self, name) for name in self.__slots__} | {"deps": list(self.deps)}


class Plan:
    """What a run would do with each node, decided by lookups only.

    `str(plan)` is a table with one line per task and status; notebooks show it as HTML.
    """

    def __init__(
        self,
        flow: str,
        graph: Graph,
        steps: dict[int, Step],
        counters: Counters,
        stopped_at: str | None,
        explains: Explains | None = None,
    ) -> None:
        """Create a plan; users call `Flow.plan` instead.

        Args:
            flow: The flow's name.
            graph: The traced calls.
            steps: The decisions by node id. Nodes without one are pruned.
            counters: The number of planning rounds and lookups.
            stopped_at: The place of the first value that is not cached, if the flow function needs one.
            explains: Finds out on request why nodes are not hits.
        """
        self.flow = flow
        self.graph = graph
        self.steps = steps
        self.counters = counters
        self.stopped_at = stopped_at
        """Where the flow function needs a value that is not cached; the plan contains no calls after that."""
        self._explains = explains
        self._explained: dict[int, Explanation] = {}

    def explain(self, node: int) -> Explanation:
        """Return the reason for a node's status, based on earlier results of its task in the store.

        Args:
            node: The id of the node.

        Raises:
            StoreError: The store cannot be read.
        """
        found = self._explained.get(node)
        if found is None:
            found = self._explained[node] = self._find_out(self.graph[node])
        return found

    def _find_out(self, node: Node) -> Explanation:
        step = self.steps.get(node.id)
        if self._explains is None or step is None or not step.runs:
            return Explanation([Reason(planned_reason(step))])
        return self._explains.explain(self.graph, self.steps, node)

    @property
    def changes(self) -> dict[str, list[CodeChange]]:
        """The code changes since the most similar earlier results, by task name, each listed once."""
        found: dict[str, dict[CodeChange, None]] = {}
        for node in self.graph:
            if changes := self.explain(node.id).changes:
                found.setdefault(node.name, {}).update(dict.fromkeys(changes))
        return {task: list(changes) for task, changes in found.items()}

    @property
    def nodes(self) -> list[PlannedNode]:
        """Every node, in the order of the calls."""
        return list(self._nodes())

    @property
    def counts(self) -> dict[str, int]:
        """The number of calls by status. Parts that are taken of results do not count."""
        tally = Counter(str(self._status(node)) for node in self.graph if not node.entry.task.derived)
        return {str(status): tally[str(status)] for status in Status}

    @property
    def work(self) -> bool:
        """Whether a run would execute any task. Taking a part of a stored value does not count."""
        tasks = (step for id, step in self.steps.items() if not self.graph[id].entry.task.derived)
        return any(step.runs for step in tasks) or self.stopped_at is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-compatible data, as `penstock plan --json` prints it."""
        return {
            "flow": self.flow,
            "counts": self.counts,
            "stopped_at": self.stopped_at,
            "rounds": self.counters.rounds,
            "lookups": self.counters.lookups,
            "changes": {task: [each.to_dict() for each in changes] for task, changes in self.changes.items()},
            "nodes": [node.to_dict() for node in self._nodes()],
        }

    def _status(self, node: Node) -> Status:
        step = self.steps.get(node.id)
        return Status.PRUNED if step is None else step.status

    def _nodes(self) -> Iterator[PlannedNode]:
        for node in self.graph:
            step = self.steps.get(node.id)
            answer = step.answer if step is not None else None
            yield PlannedNode(
                id=node.id,
                task=node.name,
                status=str(self._status(node)),
                reason=self.explain(node.id).summary if step is not None and step.runs else planned_reason(step),
                key=answer.cache_key if isinstance(answer, Hit) else node.cache_key,
                size=answer.size if isinstance(answer, Hit) else None,
                seconds=answer.seconds if isinstance(answer, Hit | NoHit) else None,
                deps=node.deps,
            )

    # -- reading it ---------------------------------------------------------------------------------------------------

    def _rows(self) -> list[tuple[str, str, int, float, str]]:
        """(task, status, calls, seconds, reasons), in the order of first calls."""
        grouped: dict[tuple[str, str], list[PlannedNode]] = {}
        calls = (node for node in self._nodes() if not self.graph[node.id].entry.task.derived)
        for node in calls:
            grouped.setdefault((node.task, node.status), []).append(node)
        rows = []
        for (task, status), nodes in grouped.items():
            reasons = Counter(n.reason for n in nodes)
            shown = "; ".join(_counted(*each, of=len(reasons)) for each in reasons.most_common(SHOWN_REASONS))
            rows.append((task, status, len(nodes), sum(n.seconds or 0.0 for n in nodes), shown))
        return rows

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {status}" for status, n in self.counts.items() if n)
        lines = [f"{self.flow}: {counts or 'no tasks'}"]
        rows = self._rows()
        width = max((len(row[0]) for row in rows), default=0)
        for task, status, number, seconds, reasons in rows:
            took = f"{seconds:8.2f} s" if seconds else " " * 10
            lines.append(f"  {task:<{width}}  {status:<7} {number:>6} {took}  {reasons}")
        if self.stopped_at is not None:
            lines.append(f"  the plan ends at {self.stopped_at}: the flow needs a value there that is not cached")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Plan({str(self).splitlines()[0]})"

    def _repr_html_(self) -> str:
        import html

        cells = "".join(
            f"<tr><td>{html.escape(task)}</td><td>{status}</td><td>{number}</td><td>{seconds:.2f}</td>"
            f"<td>{html.escape(reasons)}</td></tr>"
            for task, status, number, seconds, reasons in self._rows()
        )
        stop = f"<p>The plan ends at {html.escape(self.stopped_at)}.</p>" if self.stopped_at is not None else ""
        head = "<tr><th>task</th><th>status</th><th>nodes</th><th>seconds</th><th>why</th></tr>"
        return f"<p><b>{html.escape(self.flow)}</b></p><table>{head}{cells}</table>{stop}"


def _counted(reason: str, nodes: int, *, of: int) -> str:
    """Format one of several reasons with the number of its nodes."""
    return reason if of == 1 else f"{reason} ({nodes} node{'' if nodes == 1 else 's'})"
