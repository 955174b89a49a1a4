"""Histories: what processes tried, with what result, and when, as one line of JSON each.

A process writes each of its operations twice: `invoke`, and then `ok` with the answer, `fail` if it did nothing, or
`info` if the outcome is unknown. An operation cut short by a kill stays an `invoke`, which counts as `info`. A `note`
stands alone. Times are those of the machine's monotonic clock, which all its processes share.

The operations of clients:

    read        look a key up and load its value      → generation, attempt (None: absent), digest, the one recorded
    publish     commit a staged result                → won, generation, attempt, digest; or restart
    acquire     one attempt to take a lock            → session, fence; or holder
    holds       (note) the session was not lost at t  session, fence
    wait        wait until a lock may be free
    release     release a lock                        session, fence → freed: it was the session's until then
    lost        (note) a session learned that it is lost
    invalidate  close the current generation
    gc          collect garbage
    bye         (note) a client ended in order: the names of the threads that still run
    crash       (note) a client ended by an error

Those of the nemesis (process `nemesis`, with `target` a process): `stop`, `continue`, `kill`, `cut`, and `outage`, an
operation that lasts as long as a server is unreachable, with `empty` if it came back without its data; `hung` is a
client that did not end. `left` finally lists what remains.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One line."""

    t: float
    process: str
    n: int
    """Of the operation; its lines share it."""
    type: str
    op: str
    key: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        about = ", ".join(f"{name} {value}" for name, value in self.about.items())
        return f"{self.t:.4f} {self.process} {self.type} {self.op} {self.key} {about}".rstrip()


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation from its `invoke` to its end, if it has one."""

    invoke: Event
    end: Event | None

    @property
    def ok(self) -> bool:
        return self.end is not None and self.end.type == "ok"

    @property
    def answer(self) -> dict[str, Any]:
        return self.end.about if self.end is not None else {}

    @property
    def ended(self) -> float:
        """Return when its end was known; infinity if it was not."""
        return self.end.t if self.end is not None else float("inf")


class Recorder:
    """The writer of one process. Each line is one write, so nothing written is lost when the process is killed."""

    def __init__(self, folder: Path, process: str) -> None:
        self.process = process
        self._file = os.open(folder / f"{process}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._numbers = itertools.count()

    def invoke(self, op: str, key: str = "", **about: Any) -> Pending:
        n = next(self._numbers)
        self._write(n, "invoke", op, key, about)
        return Pending(self, n, op, key)

    def note(self, op: str, key: str = "", *, t: float | None = None, **about: Any) -> None:
        self._write(next(self._numbers), "note", op, key, about, t)

    def _write(self, n: int, type: str, op: str, key: str, about: dict[str, Any], t: float | None = None) -> None:
        line = [time.monotonic() if t is None else t, self.process, n, type, op, key, about]
        os.write(self._file, json.dumps(line).encode() + b"\n")


class Pending:
    """An operation under way."""

    def __init__(self, recorder: Recorder, n: int, op: str, key: str) -> None:
        self._recorder, self._n, self._op, self._key = recorder, n, op, key

    def ok(self, **answer: Any) -> None:
        self._recorder._write(self._n, "ok", self._op, self._key, answer)

    def fail(self, **why: Any) -> None:
        self._recorder._write(self._n, "fail", self._op, self._key, why)

    def info(self, **why: Any) -> None:
        self._recorder._write(self._n, "info", self._op, self._key, why)


def read_history(folder: Path) -> list[Event]:
    """Return all lines of all processes in the order of their times."""
    events = []
    for path in folder.glob("*.jsonl"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            events.append(Event(*json.loads(line)))
    # Lines of one process with the same time keep the order in which they were written.
    return sorted(events, key=lambda event: event.t)


def operations(history: list[Event]) -> Iterator[Operation]:
    """Return the operations in the order in which they started."""
    ends = {(e.process, e.n): e for e in history if e.type in ("ok", "fail", "info")}
    for event in history:
        if event.type == "invoke":
            yield Operation(event, ends.get((event.process, event.n)))
