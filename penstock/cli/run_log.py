"""What the log of a run adds up to: read as a stream, however long it is, and only as much of it kept as is shown."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from penstock import events

SLOWEST = 5
"""Calls shown as the slowest ones."""
MOST_FAILURES = 1_000
"""Failures that are shown; of more than these the log itself has the rest."""
MOST_NOTES = 1_000


@dataclass(slots=True)
class RunLog:
    """What happened since the run was started, resumed or tried again for the last time."""

    failures: list[events.NodeFailed] = field(default_factory=list)
    failed: int = 0
    """How many failures there were, shown or not."""
    notes: dict[tuple[str, str], None] = field(default_factory=dict)
    """Task and note, each once, in order."""
    locks_lost: int = 0
    outages: dict[tuple[str, str, bool], events.LocksDown] = field(default_factory=dict)
    waits: dict[int, tuple[events.NodeParked, float | None]] = field(default_factory=dict)
    """Calls that waited for somebody else, for whom at last, and how long; None if they wait still."""
    _slowest: list[tuple[float, int, events.NodeFinished]] = field(default_factory=list)

    @classmethod
    def of(cls, log: Iterable[events.Event]) -> RunLog:
        """All of a log."""
        seen = cls()
        for number, event in enumerate(log):
            if isinstance(event, events.RunStarted):
                seen = cls()
            else:
                seen._note(number, event)
        return seen

    @property
    def slowest(self) -> list[events.NodeFinished]:
        return [event for *_, event in sorted(self._slowest, key=lambda each: (-each[0], -each[1]))]

    def _note(self, number: int, event: events.Event) -> None:
        if isinstance(event, events.NodeFailed):
            self.failed += 1
            if len(self.failures) < MOST_FAILURES:
                self.failures.append(event)
        elif isinstance(event, events.NodeFinished):
            for note in event.notes:
                self._note_once(event.task, note)
            if event.how == "executed":
                keep = heapq.heappush if len(self._slowest) < SLOWEST else heapq.heappushpop
                keep(self._slowest, (event.seconds, -number, event))  # among equals the first
        elif isinstance(event, events.NodeRevived):
            self._note_once(event.task, event.reason)
        elif isinstance(event, events.LocksLost):
            self.locks_lost += 1
        elif isinstance(event, events.LocksDown):
            if len(self.outages) < MOST_NOTES:
                self.outages.setdefault((event.doing, event.reason, event.unlocked), event)
        elif isinstance(event, events.NodeParked):
            self.waits[event.node] = (event, None)
        elif isinstance(event, events.NodeUnparked) and event.node in self.waits:
            self.waits[event.node] = (self.waits[event.node][0], event.seconds)

    def _note_once(self, task: str, note: str) -> None:
        if len(self.notes) < MOST_NOTES:
            self.notes.setdefault((task, note))
