"""Explanations of planned calls, as `plan` and `why` show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from penstock.graph.graphs import Graph, Node
from penstock.graph.steps import NoAnswer, Step

if TYPE_CHECKING:
    from penstock.graph.code.changes import CodeChange

SHOWN_REASONS = 4
"""The most reasons in one line."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One component in which two keys differ."""

    component: str
    """`task_source`, `inputs.day`, …"""
    kind: str
    """changed, added, removed, or open (not known before the run)."""
    old: str | None = None
    new: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as JSON-compatible data."""
        return {"component": self.component, "kind": self.kind, "old": self.old, "new": self.new}


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason, in one line."""

    text: str
    """The reason in a form that is the same for many calls of a task; empty to omit it from summaries."""
    detail: str = ""
    """The reason with details of this call."""
    diff: str = ""
    """The lines of code that differ."""

    @property
    def whole(self) -> str:
        """The most detailed text."""
        return self.detail or self.text


@dataclass(frozen=True, slots=True)
class Explanation:
    """The reasons for the status of a call, and the earlier key with which it was compared."""

    reasons: Sequence[Reason]
    nearest_key: str | None = None
    """The key it was compared with."""
    nearest_created: float | None = None
    """When that result was published, in seconds since the epoch."""
    differences: Sequence[Difference] = ()
    changes: Sequence[CodeChange] = ()
    """Changes of the code."""
    notes: Sequence[str] = field(default=())
    """Other information, such as differences between environments."""

    @property
    def summary(self) -> str:
        """The reasons in one line, without details of this call."""
        texts = [reason.text for reason in self.reasons if reason.text]
        more = [f"{len(texts) - SHOWN_REASONS} more reasons"] if len(texts) > SHOWN_REASONS else []
        return "; ".join([*texts[:SHOWN_REASONS], *more, *self.notes])


class Explains(Protocol):
    """Finds the reasons for the status of nodes. May read from a store."""

    def explain(self, graph: Graph, steps: dict[int, Step], node: Node) -> Explanation:
        """Return the reason for a node's status."""
        ...


def planned_reason(step: Step | None) -> str:
    """Return the reason of a node's status that the lookups alone give."""
    if step is None:
        return "upstream of a hit"
    if isinstance(step.answer, NoAnswer):
        return f"{step.reason}: {step.answer.error}".splitlines()[0]
    return step.reason
