"""Events of a run: small immutable objects, written to the run's log as JSON lines and shown as progress.

Names are in the past tense. Every event has a time and is self-contained, so that a truncated log stays readable line
by line.
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
    """A run or a further attempt of it began."""

    run: str
    flow: str
    attempt: int
    runner: str
    store: str


class NodesPlanned(Event, frozen=True, tag="nodes_planned"):
    """A part of the graph was planned, at a sync point or after the flow function returned.

    The counts by status and task leave out parts that are taken of results.
    """

    nodes: int
    hit: int = 0
    miss: int = 0
    bypass: int = 0
    unknown: int = 0
    rounds: int = 0
    lookups: int = 0
    tasks: dict[str, int] = {}
    """The number of nodes that run, by task name."""


class NodeFinished(Event, frozen=True, tag="node_finished"):
    """A call has its value: its function ran, or a stored result was found once its inputs were known."""

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
    """An attempt failed and will be retried."""

    node: int
    task: str
    attempt: int
    delay: float
    reason: str


class NodeFailed(Event, frozen=True, tag="node_failed"):
    """A node failed and will not be retried."""

    node: int
    task: str
    attempt: int
    error: str
    message: str
    traceback: str = ""
    skipped: int = 0
    """The number of calls that will not run because of it."""


class NodeParked(Event, frozen=True, tag="node_parked"):
    """Another session is computing the same key, so the node waits in the driver without occupying a worker."""

    node: int
    task: str
    key: str
    holder: dict[str, str] = {}
    since: float = 0.0


class NodeUnparked(Event, frozen=True, tag="node_unparked"):
    """A parked node continues: it acquired the lock, or the result it waited for was published."""

    node: int
    task: str
    seconds: float
    """How long it was parked."""


class NodeRevived(Event, frozen=True, tag="node_revived"):
    """A stored result turned out to be missing or damaged and will be recomputed."""

    node: int
    task: str
    reason: str


class LocksLost(Event, frozen=True, tag="locks_lost"):
    """The lease of the lock session expired. Work continues; the first published result of a key is used."""

    held: int
    """The number of locks that were held."""


class LocksDown(Event, frozen=True, tag="locks_down"):
    """The lock manager did not answer. Locks that could not be released become free when their lease expires."""

    doing: str
    """The operation that failed."""
    reason: str
    unlocked: bool = False
    """Whether tasks run without locks meanwhile."""


class LogLost(Event, frozen=True, tag="log_lost"):
    """A part of the run's log or its record could not be written. Published results are not affected."""

    reason: str


class BundleSubmitted(Event, frozen=True, tag="bundle_submitted"):
    """A bundle of calls was submitted to the engine."""

    bundle: int
    nodes: int


class RunFinished(Event, frozen=True, tag="run_finished"):
    """The run ended."""

    run: str
    state: str
    """completed, failed, cancelled or crashed."""
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
    """Encode an event as one line of the log, including its line feed."""
    try:
        return _encoder.encode(event) + b"\n"
    except UnicodeEncodeError:  # a name may contain lone surrogates
        return _encoder.encode(all_encodable(msgspec.to_builtins(event))) + b"\n"


def decode_event(line: bytes) -> Event:
    """Decode one line of a log. Raises `msgspec.DecodeError` or `msgspec.ValidationError` if it is not an event."""
    event: Event = _decoder.decode(line)
    return event
