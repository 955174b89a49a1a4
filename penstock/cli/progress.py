"""Progress of a run while it runs: what its events add up to, drawn on a terminal or written as plain lines."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from penstock import events
from penstock.cli.output import duration
from penstock.locks.base import describe_holder
from penstock.objects.texts import clean

LINE_SECONDS = 1.0
"""Where there is no terminal: at most one line in so many seconds."""
BAR = 20
"""Characters of the bar."""
FEWEST = 3
"""So many calls have to be over before the time that is left is told."""
MOST_HOLDERS = 3
"""Runs that are named as those that are waited for."""


def held_by(event: events.NodeParked) -> str:
    """Whom a call waits for, in words."""
    return describe_holder(event.holder, event.since)


@dataclass(slots=True)
class TaskProgress:
    """What is known of the calls of one task."""

    planned: int = 0
    """Calls that have to run, or are decided when their inputs are there."""
    ran: int = 0
    hit: int = 0
    """Results that were found only when the inputs were known."""
    retried: int = 0
    failed: int = 0
    waiting: int = 0
    """Calls that somebody else is computing."""

    @property
    def done(self) -> int:
        """Calls that are over."""
        return self.ran + self.hit + self.failed

    def __str__(self) -> str:
        done = self.done
        extras = {"hit": self.hit, "retried": self.retried, "failed": self.failed, "waiting": self.waiting}
        shown = ", ".join(f"{count} {what}" for what, count in extras.items() if count)
        return f"{done}/{max(self.planned, done)}" + (f" ({shown})" if shown else "")


@dataclass
class Watch:
    """A subscriber that keeps what the command line wants to know of a run. Events may come from any thread."""

    run: str = ""
    flow: str = ""
    runner: str = ""
    store: str = ""
    hits: int = 0
    """Results that the plan found: nothing of them runs."""
    tasks: dict[str, TaskProgress] = field(default_factory=dict)
    failures: list[events.NodeFailed] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    """What workers noted, and how often."""
    began: float = field(default_factory=time.monotonic)
    changed: threading.Event = field(default_factory=threading.Event)
    """Set by every event; whoever draws clears it."""
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _parked: dict[int, events.NodeParked] = field(default_factory=dict)
    """Calls that wait for somebody else, and for whom."""

    def __call__(self, event: events.Event) -> None:
        with self._guard:
            self._note(event)
        self.changed.set()

    def _note(self, event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            # Also the next attempt of a flow with retries: it begins anew.
            self.run, self.flow, self.runner, self.store = event.run, event.flow, event.runner, event.store
            self.hits = 0
            self.tasks.clear()
            self.failures.clear()
            self._parked.clear()
        elif isinstance(event, events.NodesPlanned):
            self.hits += event.hit
            for task, count in event.tasks.items():
                self._of(task).planned += count
        elif isinstance(event, events.NodeFinished):
            task_progress = self._unparked(event.task, event.node)
            if event.how == "executed":
                task_progress.ran += 1
            else:
                task_progress.hit += 1
            for note in event.notes:
                text = f"{event.task}: {note}"
                self.notes[text] = self.notes.get(text, 0) + 1
        elif isinstance(event, events.NodeFailed):
            self._unparked(event.task, event.node).failed += 1
            self.failures.append(event)
        elif isinstance(event, events.NodeRetried):
            self._unparked(event.task, event.node).retried += 1
        elif isinstance(event, events.NodeRevived):
            self._of(event.task).planned += 1
        elif isinstance(event, events.NodeParked):
            self._of(event.task).waiting += event.node not in self._parked
            self._parked[event.node] = event
        elif isinstance(event, events.NodeUnparked):
            self._unparked(event.task, event.node)
        elif isinstance(event, events.LocksDown):
            text = f"locks: cannot {event.doing}: {event.reason}"
            text += "; tasks run without locks" if event.unlocked else ""
            self.notes[text] = self.notes.get(text, 0) + 1
        elif isinstance(event, events.LogLost):
            text = f"the log of the run is incomplete: {event.reason}"
            self.notes[text] = self.notes.get(text, 0) + 1
        elif isinstance(event, events.LocksLost):
            text = f"locks: the lease ran out, with {event.held} held"
            self.notes[text] = self.notes.get(text, 0) + 1

    def _of(self, task: str) -> TaskProgress:
        return self.tasks.setdefault(task, TaskProgress())

    def _unparked(self, task: str, node: int) -> TaskProgress:
        if node in self._parked:
            del self._parked[node]
            self._of(task).waiting -= 1
        return self._of(task)

    def lines(self) -> list[str]:
        """One line per task, the flow's own first."""
        with self._guard:
            head = f"{self.flow or 'starting'}  {duration(time.monotonic() - self.began)}"
            if self.hits:
                head += f"  {self.hits} found"
            head += self._so_far()
            width = max((len(name) for name in self.tasks), default=0)
            tasks = [f"  {name:<{width}}  {progress}" for name, progress in self.tasks.items()]
            return [clean(line) for line in (head, *tasks, *(f"  waiting: {text}" for text in self._holders()))]

    def _so_far(self) -> str:
        """A bar and the time that is left, once there is something to tell them by."""
        planned = sum(max(task.planned, task.done) for task in self.tasks.values())
        done = sum(task.done for task in self.tasks.values())
        if not planned:
            return ""
        filled = BAR * done // planned
        bar = f"  [{'█' * filled}{'·' * (BAR - filled)}] {100 * done // planned} %"
        if not FEWEST <= done < planned:
            return bar
        return f"{bar}, about {duration((time.monotonic() - self.began) * (planned - done) / done)} left"

    def _holders(self) -> list[str]:
        """Whom calls wait for: one text for each run, the one that most wait for first."""
        earliest: dict[str, events.NodeParked] = {}
        counts: dict[str, int] = {}
        for event in self._parked.values():
            run = event.holder.get("run") or event.holder.get("limit", "")
            counts[run] = counts.get(run, 0) + 1
            if run not in earliest or event.since < earliest[run].since:
                earliest[run] = event
        runs = sorted(counts, key=lambda run: -counts[run])
        return [f"{counts[run]} for {held_by(earliest[run])}" for run in runs[:MOST_HOLDERS]]

    def line(self) -> str:
        """All of it in one line, without the time."""
        with self._guard:
            parts = [f"{self.hits} found"] if self.hits else []
            parts += [f"{name} {progress}" for name, progress in self.tasks.items()]
            parts += [f"waiting: {text}" for text in self._holders()]
            return f"{self.flow}: {'; '.join(parts)}" if parts else ""


@contextlib.contextmanager
def watching(*, quiet: bool = False) -> Iterator[Watch]:
    """A `Watch` to subscribe, drawn on standard error as long as the block lasts."""
    watch = Watch()
    if quiet:
        yield watch
    elif sys.stderr.isatty():
        with _drawn(watch):
            yield watch
    else:
        with _written(watch):
            yield watch


@contextlib.contextmanager
def _drawn(watch: Watch) -> Iterator[None]:
    """A live view, which stays as it is at the end."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    class View:
        def __rich__(self) -> Any:
            head, *tasks = watch.lines()
            return Group(Text(head, style="bold"), *(Text(line) for line in tasks))

    console = Console(stderr=True)
    # Standard output is drawn above the view only where it is the same terminal: a file gets it as it is.
    with Live(View(), console=console, refresh_per_second=8, redirect_stdout=sys.stdout.isatty()):
        yield


@contextlib.contextmanager
def _written(watch: Watch) -> Iterator[None]:
    """Lines, by a thread of its own: at most one in `LINE_SECONDS`, and the last state is always among them."""
    over = threading.Event()
    stream = sys.stderr

    def say(line: str) -> None:
        # In one piece: others write to the same stream.
        stream.write(f"{clean(line)}\n")
        stream.flush()

    def write() -> None:
        last, announced = "", ""
        while True:
            watch.changed.wait()
            ended = over.is_set()
            watch.changed.clear()
            if watch.run and watch.run != announced:
                announced = watch.run
                say(f"run {watch.run} of {watch.flow} on {watch.runner}")
            line = watch.line()
            if line and line != last:
                last = line
                say(line)
            if ended:
                return
            over.wait(LINE_SECONDS)

    thread = threading.Thread(target=write, name="penstock-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        watch.changed.set()
        thread.join()
