"""Messages between a driver and its workers: tasks and calls in one direction, outcomes in the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Literal

from msgspec import Struct, field, structs

from penstock.digests.large import Large
from penstock.digests.refs import Digested
from penstock.errors import TaskFailed
from penstock.graph.binding import Style
from penstock.graph.keys import KeyTemplate
from penstock.graph.tasks import TaskDefinition
from penstock.objects.sent_exceptions import Chain
from penstock.runtime import FlowRunInfo
from penstock.settings import Settings
from penstock.storage.records.records import ResultRecord
from penstock.storage.records.signing import Signatures
from penstock.storage.results.commits import Closing
from penstock.worker.nesting import Nesting
from penstock.worker.program_parts import RegisteredDigests, ScriptClasses, registered_digests, script_classes

OutcomeKind = Literal[
    "executed",  # the function ran (and, for a cached node, a result of this or another attempt is published)
    "hit",  # a result was found before the function ran
    "failed",  # the function, a serializer or the store raised
    "unowned",  # the key was computed on the worker; the driver must check whether another node computes it
    "input_lost",  # values of inputs are missing or damaged
    "closed",  # the generation was closed meanwhile (invalidated, refreshed); the node is decided again
    "worker_lost",  # the worker died
    "timeout",  # it ran longer than its timeout
    "not_started",  # handed back untouched
    "apart",  # the bundle could not be read, so each of its calls is tried by itself
]


NO_GENERATION = -1
"""Replaces the generation of a result that is not stored."""


class ShippedTask(Struct, eq=False):
    """A task in the form workers need, sent to each of them once per run."""

    number: int
    """The number by which calls refer to it."""
    task: TaskDefinition
    template: KeyTemplate | None
    """None for a plain task."""
    flow: str
    log_prints: bool
    main: str
    """The importable name of the driver's `__main__`, which differs from a worker's."""
    serializable: bool
    """Whether the driver must hold the lock of a key before it may be computed."""
    store: str | None = None
    """The store of its results, if it is not the run's."""
    transaction: str = ""
    """The path of the transaction that its results belong to."""
    code: dict[tuple[str, str], tuple[bool, dict[str, str]]] = field(default_factory=dict)
    """Digests of the code that counts in its keys, by place, until this process has compared its own with them."""


class Input(Struct, eq=False):
    """Where a call finds the result of another node. At least one of `record` and `handle` is set."""

    digest: str | None = None
    """The digest of the value; None if it is not computed yet, as for plain tasks."""
    record: ResultRecord | None = None
    """The stored result."""
    store: str | None = None
    """The address of the store that holds it; None is the run's own."""
    handle: Any = None
    """The value inside the engine; opaque to all others."""
    shared: bool = False
    """Whether several calls of the run need it, so that workers may cache it."""
    sole: bool = False
    """Whether this attempt is the last use of the value, so that it need not be copied."""
    part_of: str = ""
    """For a part of a result, the digests of the results (joined by `+`), if they are known."""


class Call(Struct, eq=False):
    """One attempt of one node."""

    node: int
    attempt: int
    """The number of the attempt, from 1."""
    task: int
    """The number of its `ShippedTask`."""
    arguments: Mapping[str, Any]
    """The arguments by name, with a Ref for each input."""
    inputs: Mapping[int, Input]
    large: tuple[Large, ...] = ()
    """The large values in the arguments. They are pickled without their value: an engine with remote workers sends it
    once and sets the `handle` with which workers `fetch` it."""
    cache_key: str | None = None
    """The key, if the driver knows it."""
    owns_task: bool = False
    """Whether its bundle owns the task, so that no other node of the run is computing its key, whatever the key is."""
    lent: tuple[str, ...] = ()
    """The names of arguments with objects that other code may have as well, since they were not copied at the call: the
    flow, another call of the bundle, or another attempt."""
    witness: str | None = None
    """The `KeyTemplate.witness` at the time of the call, for arguments that other code may have modified since."""
    digested: Mapping[str, Digested] | None = None
    """The digests of arguments, if there is code in them: it arrives in other processes without its source."""
    recipe_key: str | None = None
    """The key of the recipe entry to write; None for leaves and below plain tasks."""
    attempt_id: str = ""
    """Unique among all attempts ever made. Names the payload and identifies the publisher."""
    session_id: str | None = None
    """The driver's session that holds the lock of `cache_key`."""
    fencing_token: int | None = None
    seen: int | None = None
    """A generation whose result must not be used: expired, damaged, or to be refreshed."""
    upstream_expires: float | None = None
    """The earliest expiry of everything it is computed from, in seconds since the epoch."""
    inner: tuple[int, ...] = ()
    """Inputs that earlier calls of the same bundle compute; the worker adds them to `inputs`."""
    after: tuple[int, ...] = ()
    """Earlier calls of the same bundle that must succeed although their values are not used."""
    passes_on: bool = False
    """Whether later calls of the same bundle use the value."""
    keep: bool = True
    """Whether another node or the flow will request the value from the engine."""
    digest: bool = False
    """Whether the digest of a plain task's value is needed: a cached node uses it, or it replaces one that was lost."""
    style: Style | None = None
    """How the caller passed the arguments, if that matters."""
    context: Mapping[ContextVar[Any], Any] | None = None
    """The caller's context variables, for engines in the driver's process."""
    promised: bool = False
    """Whether calls submitted before it is over may use the value, through the handle of `HoldsBack.promise`."""

    def key_arguments(self) -> Mapping[str, Any]:
        """Return the arguments from which a key is computed."""
        return {**self.arguments, **self.digested} if self.digested else self.arguments


class Bundle(Struct, eq=False):
    """Calls that are submitted together. Each has its own outcome."""

    number: int
    calls: list[Call]
    resources: Mapping[str, float] = field(default_factory=dict)
    """The resources it needs while it runs, in canonical units (`cpu` cores, `memory` bytes, others by count)."""
    seconds: float | None = None
    """After this time no further call is started, and the rest is handed back to the driver."""
    size: int = 0
    """Its size in bytes when sent, set by the engine; 0 if it is not serialised."""


class Failure(Struct, eq=False):
    """An exception in transit: its text and traceback, and the object if it can be pickled."""

    type_name: str
    message: str
    traceback: str
    error: BaseException | None = None
    chain: Chain = field(default_factory=dict)
    """The object and all that are linked to it, each pickled by itself, so that one that cannot be unpickled affects
    nothing else."""
    stand_in: TaskFailed | None = None
    """What the others of an arrived chain are linked to if the object could not be unpickled."""


class Outcome(Struct, eq=False):
    """The outcome of one call."""

    node: int
    attempt: int
    kind: OutcomeKind
    cache_key: str | None = None
    digest: str | None = None
    record: ResultRecord | None = None
    handle: Any = None
    expires: float | None = None
    """The earliest expiry of the value and everything it was computed from."""
    part_of: str = ""
    """As `Input.part_of`."""
    failure: Failure | None = None
    lost: Mapping[int, int] = field(default_factory=dict)
    """Nodes whose values could not be loaded, with the generation of the stored result, or NO_GENERATION if only the
    engine had the value."""
    started: float = 0.0
    """The time of the start, in seconds since the epoch by the worker's clock."""
    seconds: float = 0.0
    """The duration of the function."""
    busy: float = 0.0
    """How long the worker was busy with the call: inputs, lookup, function, publishing."""
    won: bool = True
    """False if another attempt had published first, and its value was adopted."""
    worker: str = ""
    off_recipe: bool = False
    """Whether files had other content than in the recipe of the call, so that the value is none of this recipe."""
    replaces: Closing | None = None
    """As `Published.replaces`."""
    notes: tuple[str, ...] = ()
    """Warnings: a fall-back to pickle, a task that is not deterministic, changed input files."""


class Started(Struct, frozen=True):
    """A worker started the bundle."""

    bundle: int


class Waits(Struct, frozen=True):
    """A run nested in a call of the bundle waits for others. Its worker is lent out, and calls behind it in the bundle
    will be handed back untouched."""

    bundle: int
    node: int
    waits: bool
    """False when it continues."""


class Finished(Struct, frozen=True, eq=False):
    """The bundle is over."""

    bundle: int
    outcomes: Sequence[Outcome]


Report = Callable[[Started | Waits | Finished], None]


Preparation = Callable[[], object]


class WorkerContext(Struct, eq=False):
    """The context that all calls of a run share. Contains no credentials: workers open stores by address, and read
    signing keys on their own machine."""

    run: FlowRunInfo
    store: str
    """The result store's address."""
    signatures: Signatures | None = None
    """Signs and verifies results. Contains the location of the keys, which each worker reads there."""
    open_results: Callable[[str | None], Any] | None = None
    """Opens the results of a store by address (None: the run's), for engines in the driver's process."""
    index: str | None = None
    """The address of a lookup index, without its password."""
    settings: Settings | None = None
    """The run's settings, for nested runs. Sent without passwords."""
    recorded: Callable[[], bool] | None = None
    """Waits and returns whether the run's record is in its store, by which workers verify that they see that store.
    Only in the driver's process."""
    script: ScriptClasses | None = None
    """The classes of the driver's script, for engines in other processes."""
    digests: RegisteredDigests | None = None
    """The digests that the driver's program has registered, for engines in other processes."""
    setup: Preparation | None = None
    """Prepares each worker process for the run."""
    nesting: Nesting = field(default_factory=Nesting)
    """This run and the calls around it."""

    def travelling(self) -> WorkerContext:
        """Return a copy for other processes, without parts that only this process can use."""
        return structs.replace(
            self,
            open_results=None,
            settings=None if self.settings is None else replace(self.settings, store=self.store),
            recorded=None,
            script=self.script or script_classes(),
            digests=self.digests or registered_digests(),
            nesting=self.nesting.travelling(),
        )

    def evidence(self) -> str | None:
        """Return a name that exists in the run's store, or None if there may be none."""
        return f"runs/{self.run.id}/run.json" if self.run.id and self.recorded is not None and self.recorded() else None


def new_cohort() -> str:
    """Return a new *cohort*: the prefix of the ids of all attempts of one run."""
    return os.urandom(_COHORT // 2).hex()


def cohort_of(attempt_id: str) -> str:
    """Return the cohort of an attempt."""
    return attempt_id[:_COHORT]


_COHORT = 16
