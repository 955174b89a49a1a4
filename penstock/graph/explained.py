"""Why a call is what the plan says of it: reasons, as `plan` and `why` tell them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from penstock.graph.graphs import Graph, Node
from penstock.graph.steps import NoAnswer, Step

if TYPE_CHECKING:
    from penstock.graph.code.changes import CodeChange

SHOWN_REASONS = 4
"""So many stand in one line."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One component that keeps two keys apart."""

    component: str
    """`task_source`, `inputs.day`, …"""
    kind: str
    """changed, added, removed, or open: not known before the run."""
    old: str | None = None
    new: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"component": self.component, "kind": self.kind, "old": self.old, "new": self.new}


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason, in one line."""

    text: str
    """What holds for many calls of a task alike; empty for what only a closer look tells."""
    detail: str = ""
    """The same, or what is of this call alone."""
    diff: str = ""
    """Lines of code that differ."""

    @property
    def whole(self) -> str:
        """All there is to say."""
        return self.detail or self.text


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one call is what the plan says, and with what it was compared."""

    reasons: Sequence[Reason]
    nearest_key: str | None = None
    """The key it was compared with."""
    nearest_created: float | None = None
    """Seconds since the epoch."""
    differences: Sequence[Difference] = ()
    changes: Sequence[CodeChange] = ()
    """Of the code behind it."""
    notes: Sequence[str] = field(default=())
    """What else is worth knowing, such as another environment."""

    @property
    def summary(self) -> str:
        """In one line, without what is of this call alone."""
        texts = [reason.text for reason in self.reasons if reason.text]
        more = [f"{len(texts) - SHOWN_REASONS} more reasons"] if len(texts) > SHOWN_REASONS else []
        return "; ".join([*texts[:SHOWN_REASONS], *more, *self.notes])


class Explains(Protocol):
    """Looks for the reasons; may ask a store."""

    def explain(self, graph: Graph, steps: dict[int, Step], node: Node) -> Explanation: ...


def planned_reason(step: Step | None) -> str:
    """What the look-ups alone say of a node."""
    if step is None:
        return "upstream of a hit"
    if isinstance(step.answer, NoAnswer):
        return f"{step.reason}: {step.answer.error}".splitlines()[0]
    return step.reason
