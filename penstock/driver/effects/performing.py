"""Performing the core's instructions with the engine, the locks, the store and the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from penstock import events as log
from penstock.driver.effects.leases import Leases
from penstock.driver.effects.lookups import Lookups
from penstock.driver.effects.starts import Starts
from penstock.driver.events import Answered, Refused
from penstock.driver.instructions import (
    Acquire,
    Borrow,
    FindFree,
    ForgetValues,
    InForce,
    Instruction,
    LookUp,
    NoteRecipe,
    NoteTask,
    Opened,
    OpenEngine,
    ReadLimits,
    Release,
    StopBundle,
    Submit,
    Submitted,
    TakeStarts,
    Tell,
    Waive,
    Watch,
)
from penstock.graph.graphs import Entry
from penstock.limits.tables import LimitTable
from penstock.locks.base import Holder, Lease, LockManager
from penstock.runners.base import Engine, HoldsBack


class Performer:
    """Carries out the core's instructions in the driver's thread."""

    def __init__(
        self,
        *,
        lookups: Lookups,
        leases: Leases,
        limits: LimitTable,
        starts: Starts,
        permits: Callable[[], LockManager],
        open_engine: Callable[[], Engine],
        emit: log.Emit,
        on_task: Callable[[Entry], None],
    ) -> None:
        """`permits()` returns the lock manager for limits; `on_task` is called for each task sent to the engine."""
        self.engine: Engine | None = None
        self.leases = leases
        self._lookups = lookups
        self._limits = limits
        self._permits = permits
        self._open_engine = open_engine
        self._holds_back: HoldsBack | None = None
        self._registered: set[int] = set()
        self.instructions: Mapping[type, Callable[[Any], object]] = {
            Tell: lambda told: emit(told.event),
            Release: lambda wanted: leases.release(wanted.holder, wanted.lock_outcome),
            Waive: lambda wanted: leases.waive(wanted.node, wanted.key),
            Watch: lambda wanted: leases.watch(permits(), wanted.keys),
            ForgetValues: lambda wanted: self._engine.release(wanted.handles),
            StopBundle: lambda wanted: self._engine.cancel(wanted.bundle),
            NoteTask: lambda told: on_task(told.entry),
            NoteRecipe: lambda wanted: lookups.note(wanted.store, wanted.entry, told=wanted.told),
        }
        self._answers: Mapping[type, Callable[[Any], Any]] = {
            LookUp: lambda asked: lookups.answer(asked.queries),
            ReadLimits: lambda asked: InForce(limits.at_once(), limits.rates()),
            Acquire: self._acquire,
            Borrow: lambda asked: leases.borrow(asked.manager, asked.held),
            FindFree: self._find_free,
            TakeStarts: lambda asked: starts.take(asked.wanted),
            OpenEngine: self._open,
            Submit: self._submit,
        }

    def answer(self, question: Instruction) -> Answered | Refused:
        """Return the answer to a question, or the error."""
        try:
            return Answered(self._answers[type(question)](question))
        except BaseException as error:  # noqa: BLE001 (the core decides whose failure it is)
            return Refused(error)

    def capacity(self) -> Mapping[str, float] | None:
        """Return the engine's present capacity, or None before it is opened."""
        return None if self.engine is None else self.engine.capacity

    def close(self, handles: list[Any]) -> None:
        """Release all locks; then release these values and stop the workers."""
        self.leases.close()
        if self.engine is not None:
            if handles:
                self.engine.release(handles)
            self.engine.close()

    @property
    def _engine(self) -> Engine:
        assert self.engine is not None  # it is open
        return self.engine

    def _open(self, asked: OpenEngine) -> Opened:
        engine = self.engine = self._open_engine()
        if isinstance(engine, HoldsBack):  # checked once, because checking a protocol is slow
            self._holds_back = engine
            return Opened(engine.capacity, engine.held_back)
        return Opened(engine.capacity)

    def _submit(self, asked: Submit) -> Submitted:
        bundle, engine = asked.bundle, self._engine
        for shipped_task in asked.shipped_tasks:
            engine.register(shipped_task)
        for call in bundle.calls:
            if call.cache_key is not None and (lease := self.leases.lease(call.node)) is not None:
                call.session_id, call.fencing_token = lease.session_id, lease.fencing_token
        engine.submit(bundle)
        first = bundle.calls[0]
        holds_back = self._holds_back if first.promised else None
        promise = None if holds_back is None else holds_back.promise(bundle.number, first.node)
        return Submitted(bundle.size, promise)

    def _acquire(self, asked: Acquire) -> Mapping[Any, Lease | Holder | None]:
        manager = self._permits() if asked.manager is None else asked.manager
        return self.leases.acquire(manager, asked.wanted, required=asked.required)

    def _find_free(self, asked: FindFree) -> dict[str, list[str]]:
        manager = self._permits()
        return {tag: self.leases.free(manager, keys) for tag, keys in asked.permits.items()}
