"""What a driver and its workers say to each other: tasks and calls one way, outcomes the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from penstock.digests.large import Large
from penstock.graph.binding import Style
from penstock.graph.keys import KeyTemplate
from penstock.graph.tasks import TaskDefinition
from penstock.runtime import FlowRunInfo
from penstock.settings import Settings
from penstock.storage.records.records import ResultRecord
from penstock.storage.records.signing import Signatures
from penstock.worker.nesting import Nesting
from penstock.worker.script_classes import ScriptClasses, script_classes

OutcomeKind = Literal[
    "executed",  # the function ran (and, for a cached node, a result of this or another attempt is published)
    "hit",  # a result was found before the function ran
    "failed",  # the function, a serializer or the store raised
    "unclaimed",  # the cache key became known on the worker; the driver may have it computed, or locked, already
    "input_lost",  # values of inputs are gone or damaged
    "closed",  # the generation was closed meanwhile (invalidated, refreshed): to be decided again
    "worker_lost",  # the worker died
    "timeout",  # it ran longer than it may
    "not_started",  # handed back untouched
    "apart",  # the bundle could not be read: each of its calls is tried by itself, to tell which one is to blame
]


NO_GENERATION = -1
"""Instead of the generation of a result that is not stored."""


@dataclass(slots=True, eq=False)
class ShippedTask:
    """A task as workers need it, shipped to each of them once per run."""

    number: int
    """What calls name it by."""
    task: TaskDefinition
    template: KeyTemplate | None
    """None for a plain task."""
    flow: str
    log_prints: bool
    main: str
    """What `__main__` stands for where the flow was called: workers have another one."""
    serializable: bool
    """One execution among all who ask: the driver must hold the key's lock."""
    store: str | None = None
    """Another store than the run's."""
    code: dict[str, str] = field(default_factory=dict)
    """Digests of the functions that count in its keys, until this process has compared its own with them."""


@dataclass(slots=True, eq=False)
class Input:
    """Where a call finds the result of another node. At least one of `record` and `handle` is set."""

    digest: str | None = None
    """Of the value; None if nobody computed it yet (a plain task's)."""
    record: ResultRecord | None = None
    """The stored result."""
    store: str | None = None
    """The address of the store that holds it; None is the run's own."""
    handle: Any = None
    """The value inside the engine; only the engine looks into it."""
    shared: bool = False
    """Several calls of the run need it: whoever loads it may keep it for the others."""
    sole: bool = False
    """Nobody but this attempt will see the value any more: it may have the very object."""
    part_of: str = ""
    """For a part of a result: the digest of that result (of each, joined by `+`), if it is known."""


@dataclass(slots=True, eq=False)
class Call:
    """One attempt of one node."""

    node: int
    attempt: int
    """From 1."""
    task: int
    """The number of its `ShippedTask`."""
    arguments: Mapping[str, Any]
    """By parameter name, with a Ref for each input."""
    inputs: Mapping[int, Input]
    large: tuple[Large, ...] = ()
    """The large values in the arguments. They pickle without the value: an engine whose workers are elsewhere sees to
    it that these have it once, and sets the `handle` by which they `fetch` it."""
    cache_key: str | None = None
    """If the driver knows it."""
    claims: bool = False
    """No other node of the run is computing its key, whatever that is."""
    witness: str | None = None
    """Of arguments that somebody else may have changed since the call: `KeyTemplate.witness` as it was then."""
    recipe_key: str | None = None
    """Where a recipe entry is to be written; None for leaves and below plain tasks."""
    attempt_id: str = ""
    """Unique among all attempts ever made: names the payload and settles who published."""
    session_id: str | None = None
    """The driver's session that holds the lock of `cache_key`."""
    fencing_token: int | None = None
    seen: int | None = None
    """A generation whose result must not be used: expired, damaged, or to be refreshed."""
    upstream_expires: float | None = None
    """The earliest expiry among everything it was made from, seconds since the epoch."""
    inner: tuple[int, ...] = ()
    """Inputs that earlier calls of the same bundle make; their places in `inputs` are filled on the worker."""
    after: tuple[int, ...] = ()
    """Earlier calls of the same bundle that must have succeeded although their values are not used."""
    passes_on: bool = False
    """Later calls of the same bundle use the value."""
    keep: bool = True
    """Somebody will ask the engine for the value: another node, or the flow."""
    digest: bool = False
    """Of a plain task: a cached node uses the value, so its digest is wanted."""
    style: Style | None = None
    """How the caller wrote the arguments, where that matters."""
    context: Mapping[ContextVar[Any], Any] | None = None
    """The caller's context variables, for engines that share this process."""
    promised: bool = False
    """Calls that are submitted before it is over may use the value: it goes where `HoldsBack.promise` says."""


@dataclass(slots=True, eq=False)
class Bundle:
    """Calls that travel together. Outcomes stay one per call."""

    number: int
    calls: list[Call]
    resources: Mapping[str, float] = field(default_factory=dict)
    """What it needs while it runs, in canonical units (`cpu` cores, `memory` bytes, others by count)."""
    seconds: float | None = None
    """After so long no further call is begun: the rest goes back to the driver."""
    size: int = 0
    """Bytes it travels as, where it does; set by the engine that submits it."""


@dataclass(slots=True, eq=False)
class Failure:
    """An exception as it travels: the object where it pickles, its text and traceback always."""

    type_name: str
    message: str
    traceback: str
    error: BaseException | None = None
    pickled: bytes | None = None
    """The object between processes: as bytes of its own, so that one that cannot be read spoils nothing else."""


@dataclass(slots=True, eq=False)
class Outcome:
    """What came of one call."""

    node: int
    attempt: int
    kind: OutcomeKind
    cache_key: str | None = None
    digest: str | None = None
    record: ResultRecord | None = None
    handle: Any = None
    expires: float | None = None
    """The earliest expiry of the value and of all it was made from."""
    part_of: str = ""
    """As `Input.part_of`."""
    failure: Failure | None = None
    lost: Mapping[int, int] = field(default_factory=dict)
    """Nodes whose values could not be had, each with the generation of the stored result that was tried, or with
    NO_GENERATION if only the engine had the value."""
    started: float = 0.0
    """Seconds since the epoch, by the worker's clock."""
    seconds: float = 0.0
    """How long the function ran."""
    busy: float = 0.0
    """How long the worker was busy with the call: inputs, look-up, function, publishing."""
    won: bool = True
    """False if another attempt had published first and its value was adopted."""
    worker: str = ""
    notes: tuple[str, ...] = ()
    """Warnings worth telling: a fall-back to pickle, a task that is not deterministic, changed input files."""


@dataclass(frozen=True, slots=True)
class Started:
    """A worker took the bundle up."""

    bundle: int


@dataclass(frozen=True, slots=True)
class Waits:
    """A call of the bundle waits, by a run inside of it, for others: its worker is lent out, and calls behind it in the
    bundle will come back untouched."""

    bundle: int
    node: int
    waits: bool
    """False when it goes on."""


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """The bundle is over."""

    bundle: int
    outcomes: Sequence[Outcome]


Report = Callable[[Started | Waits | Finished], None]


Preparation = Callable[[], object]


@dataclass(slots=True, eq=False)
class WorkerContext:
    """What every call of a run needs to know. Ships no credentials: workers open stores by address, and read keys
    where those are."""

    run: FlowRunInfo
    store: str
    """The result store's address."""
    signatures: Signatures | None = None
    """What signs and judges results. It names the place of the keys, and each worker reads them there."""
    open_results: Callable[[str | None], Any] | None = None
    """Results of a store by address (None: the run's), for engines that share this process."""
    index: str | None = None
    """The address of a look-up index, without its password."""
    settings: Settings | None = None
    """The run's settings, for what a task itself starts. They travel without passwords."""
    recorded: Callable[[], bool] | None = None
    """Whether the run's record is in its store, so that workers can see whether they look at the same; waits for that.
    For the driver's process."""
    script: ScriptClasses | None = None
    """The classes of the driver's script, for engines in other processes."""
    setup: Preparation | None = None
    """What prepares each worker process for the run."""
    nesting: Nesting = field(default_factory=Nesting)
    """This run, and what is around it."""

    def travelling(self) -> WorkerContext:
        """Without what only this process can use."""
        return replace(
            self,
            open_results=None,
            settings=None if self.settings is None else replace(self.settings, store=self.store),
            recorded=None,
            script=self.script or script_classes(),
            nesting=self.nesting.travelling(),
        )

    def evidence(self) -> str | None:
        """The name of something that is in the run's store; None if there may be nothing."""
        return f"runs/{self.run.id}/run.json" if self.run.id and self.recorded is not None and self.recorded() else None


def new_origin() -> str:
    """How the ids of all attempts begin that one run makes: its *origin*."""
    return os.urandom(_ORIGIN // 2).hex()


def origin_of(attempt_id: str) -> str:
    """The origin of an attempt."""
    return attempt_id[:_ORIGIN]


_ORIGIN = 16
