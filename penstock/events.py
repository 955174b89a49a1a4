"""What happened in a run: small immutable events, written to the run's log as JSON lines and shown as progress.

Names are past tense. Every event has the time (seconds since the epoch) and is self-contained, so a log cut off
anywhere is still readable line by line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from penstock.objects.texts import all_encodable


class Event(msgspec.Struct, frozen=True, tag_field="event", kw_only=True, omit_defaults=True):
    """Base of all events."""

    at: float
    """Seconds since the epoch."""


class RunStarted(Event, frozen=True, tag="run_started"):
    run: str
    flow: str
    attempt: int
    runner: str
    store: str


class NodesPlanned(Event, frozen=True, tag="nodes_planned"):
    """A part of the graph was planned: at a sync point, or the rest of it when the flow function returned."""

    nodes: int
    hit: int = 0
    miss: int = 0
    bypass: int = 0
    unknown: int = 0
    rounds: int = 0
    lookups: int = 0
    tasks: dict[str, int] = {}
    """Nodes that run, by task name."""


class NodeFinished(Event, frozen=True, tag="node_finished"):
    """A node has its value: its function ran, or a result was found when its inputs were known."""

    node: int
    task: str
    how: Literal["executed", "hit"]
    attempt: int
    key: str | None = None
    seconds: float = 0.0
    size: int | None = None
    worker: str = ""
    notes: tuple[str, ...] = ()


class NodeRetried(Event, frozen=True, tag="node_retried"):
    """An attempt did not succeed and there will be another."""

    node: int
    task: str
    attempt: int
    delay: float
    reason: str


class NodeFailed(Event, frozen=True, tag="node_failed"):
    node: int
    task: str
    attempt: int
    error: str
    message: str
    traceback: str = ""
    skipped: int = 0
    """Nodes that never run because of it."""


class NodeParked(Event, frozen=True, tag="node_parked"):
    """Somebody else is computing the same key: the node waits in the driver and holds no slot."""

    node: int
    task: str
    key: str
    holder: dict[str, str] = {}
    since: float = 0.0


class NodeUnparked(Event, frozen=True, tag="node_unparked"):
    """A parked node goes on: its lock is its own now, or the result it waited for is there."""

    node: int
    task: str
    seconds: float
    """How long it was parked."""


class NodeRevived(Event, frozen=True, tag="node_revived"):
    """A stored result turned out to be missing or damaged and is made again."""

    node: int
    task: str
    reason: str


class LocksLost(Event, frozen=True, tag="locks_lost"):
    """The lock session's lease ran out; work goes on and the store decides whose result counts."""

    held: int


class LocksDown(Event, frozen=True, tag="locks_down"):
    """The lock manager did not answer. Locks that could not be released are free when their lease is over."""

    doing: str
    """What it was asked to do."""
    reason: str
    unlocked: bool = False
    """Tasks run without locks meanwhile."""


class LogLost(Event, frozen=True, tag="log_lost"):
    """The store did not take a part of the run's log, or its record. What it took of results is there."""

    reason: str


class BundleSubmitted(Event, frozen=True, tag="bundle_submitted"):
    bundle: int
    nodes: int


class RunFinished(Event, frozen=True, tag="run_finished"):
    run: str
    state: str
    seconds: float
    counts: dict[str, int] = {}
    error: str = ""


AnyEvent = (
    RunStarted
    | NodesPlanned
    | NodeFinished
    | NodeRetried
    | NodeFailed
    | NodeParked
    | NodeUnparked
    | NodeRevived
    | LocksLost
    | LocksDown
    | LogLost
    | BundleSubmitted
    | RunFinished
)
Emit = Callable[[Event], None]

_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(AnyEvent)
_encoder = msgspec.json.Encoder()


def encode_event(event: Event) -> bytes:
    """One line of the log, with its line feed."""
    try:
        return _encoder.encode(event) + b"\n"
    except UnicodeEncodeError:  # a name may hold what UTF-8 does not
        return _encoder.encode(all_encodable(msgspec.to_builtins(event))) + b"\n"


def decode_event(line: bytes) -> Event:
    """The event of one line; raises `msgspec.DecodeError` or `msgspec.ValidationError` for anything else."""
    event: Event = _decoder.decode(line)
    return event
