"""Committing staged results: one visible result for each key and generation, whatever crashes.

The rules (see docs/protocol.md for the proof):

* R1 A slot changes from absent to a record or a redirect by `put_if_absent` only.
* R2 A record is replaced by a redirect with a plain put, and only by a writer that has read that record. A redirect
  never changes back.
* R3 The payload is durable before the record that names its attempt.
* R4 Every write but a clean success is settled by reading the slot: own attempt = won, another attempt = adopted, a
  redirect = start again, nothing = send again.
* R5 An attempt removes its own payload only after it has *read* the record of another attempt in that slot.

R6, about transactions, which commit several results together, is in `decisions`. Their results are published as
intents, by the same rules. What they replace is closed only by `close_replaced`, just before the decision.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, replace

import msgspec

from penstock.clocks import Clock, pause_after
from penstock.errors import DamagedResult, StoreError, StoreUnreachable
from penstock.storage.records.names import key_folder
from penstock.storage.records.records import IntentRecord, Reason, RedirectRecord, ResultRecord
from penstock.storage.results.decisions import Decisions
from penstock.storage.results.generations import Absent, Found, read_slot, redirect_seen
from penstock.storage.results.trust import Trust
from penstock.storage.stores.base import Store

COMMIT_SECONDS = 30.0
"""How long a commit tries to find out what became of it before it reports this as unknown."""
COMMIT_TRIES = 6


@dataclass(frozen=True, slots=True)
class Staged:
    """A result with a durable payload that is not visible yet: `commit` it, or leave it to `gc`.

    It contains no value and can be sent to another process, which may commit it.
    """

    record: ResultRecord
    data: bytes
    """The encoded record."""
    closes: Closing | None
    """What the record replaces. It is closed just before the commit."""
    sign: bool = True
    """Whether to sign the record, if results are signed."""


Closing = tuple[int, Reason]
"""A generation that is closed because another one replaces it, and why."""


@dataclass(frozen=True, slots=True)
class Published:
    """The result of a key and generation, which every caller receives."""

    record: ResultRecord
    won: bool
    """False if another attempt was first and wrote `record`. If its digest differs, the task is not deterministic."""
    replaces: Closing | None = None
    """What a result of a transaction replaces, to be closed with `close_replaced` before the transaction commits."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """Nothing was published, since another transaction has a result there, and has neither ended nor been given up.

    The value stands: whoever computed it may use it.
    """

    record: ResultRecord
    """The result of the other transaction."""

    @property
    def because(self) -> str:
        """Why nothing was published, for people."""
        whose = f" of run {self.record.producer.run_id}" if self.record.producer.run_id else ""
        return f"its key is one of a transaction{whose} that has not ended"

    def error(self, task: str) -> StoreError:
        """Return the error for a value that cannot be used without being published: a stream, which has been read."""
        return StoreError(
            f"a stream of {task} cannot be published now",
            where=self.record.slot_name,
            because=self.because,
            hint="run it again when the transaction has ended",
        )


@dataclass(frozen=True, slots=True)
class Restart:
    """Nothing was published, since the generation was closed meanwhile. Look up again, and run again."""

    generation: int
    """The generation to continue with."""
    reason: Reason

    @property
    def value_stands(self) -> bool:
        """Whether the value is still valid: these reasons do not invalidate it."""
        return self.reason in ("gc", "damaged", "rollback")


class Counters:
    """Statistics of a `ResultStore`. Safe for use by several threads. A copy in another process starts at 0."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.lookups = 0
        """The number of results looked up."""
        self.round_trips = 0
        """The number of batches of lookups and recipes."""
        self.bytes_read = 0
        """The bytes of loaded values."""
        self.bytes_written = 0
        """The bytes of staged payloads and records."""

    def add(self, *, lookups: int = 0, round_trips: int = 0, bytes_read: int = 0, bytes_written: int = 0) -> None:
        with self._lock:
            self.lookups += lookups
            self.round_trips += round_trips
            self.bytes_read += bytes_read
            self.bytes_written += bytes_written

    def __reduce__(self) -> tuple[type[Counters], tuple[()]]:
        return (Counters, ())

    def __repr__(self) -> str:
        return f"Counters({self.lookups} lookups in {self.round_trips} round trips)"


class Commits:
    """Commits results in one store."""

    def __init__(self, store: Store, trust: Trust, counters: Counters, clock: Clock) -> None:
        self._store = store
        self._trust = trust
        self._counters = counters
        self._clock = clock
        self.decisions = Decisions(store, trust, clock)

    def commit(self, staged: Staged) -> Published | Restart | Undecided:
        """See `ResultStore.commit`."""
        failures, deadline = 0, self._clock.monotonic() + COMMIT_SECONDS
        while True:
            unclear: StoreUnreachable | None = None
            try:
                step = self._try_commit(staged)
            except StoreUnreachable as error:
                step, unclear = staged, error
            if not isinstance(step, Staged):
                return step
            # A taken name without a record does not settle the outcome either.
            failures += unclear is not None or step is staged
            staged = step
            if failures >= COMMIT_TRIES or self._clock.monotonic() >= deadline:
                raise StoreUnreachable(
                    f"it is unknown whether a result of {staged.record.task} was published",
                    where=staged.record.slot_name,
                    because=(unclear.because or unclear.what) if unclear else "its slot kept changing",
                    hint="run it again; if the result was published, it is reused",
                ) from unclear
            if failures:
                pause_after(failures, self._clock)

    def close_replaced(self, published: Published) -> None:
        """Close what a result of a transaction replaces. Idempotent; may be repeated after an error."""
        if published.replaces is not None:
            self._close(published.record, published.replaces)

    def _close(self, record: ResultRecord, closing: Closing) -> None:
        redirect_seen(self._store, key_folder(record.task, record.key), *closing, clock=self._clock)

    def _try_commit(self, staged: Staged) -> Published | Restart | Undecided | Staged:
        """Try once. Return what to commit instead if the generation is closed. Raises `StoreUnreachable` if unclear."""
        record = staged.record
        if staged.closes is not None and not record.transaction:
            self._close(record, staged.closes)
            staged = replace(staged, closes=None)
        try:
            if self._store.put_if_absent(record.slot_name, staged.data):
                return Published(record, won=True, replaces=staged.closes)
        except StoreUnreachable:
            # The write may have succeeded. If the slot is still empty, the error is raised.
            step = self._settle(staged)
            if step is staged:
                raise
            return step
        return self._settle(staged)

    def _settle(self, staged: Staged) -> Published | Restart | Undecided | Staged:
        """Read the slot to find out what became of a write (R4)."""
        mine = staged.record
        try:
            there = read_slot(self._store, mine.slot_name)
            slot = self.decisions.settled(there, inside=mine.transaction)
        except DamagedResult:
            # As if it were rolled back, for a transaction: what it replaces is not closed yet.
            reason: Reason = "rollback" if mine.transaction else "damaged"
            self._close(mine, (mine.generation, reason))
            return self._moved(staged, Restart(mine.generation + 1, reason))
        if slot is None:
            return staged
        if isinstance(slot, IntentRecord):
            return Undecided(slot.result)
        if isinstance(slot, RedirectRecord):
            if isinstance(there, IntentRecord):
                self._close(mine, (mine.generation, "rollback"))
            return self._moved(staged, Restart(slot.next, slot.reason))
        # Verified first, since others can find attempts in a listing and forge a record.
        if (refused := self._trust.refusal(slot)) is not None:
            raise refused
        if slot.attempt == mine.attempt:
            return Published(slot, won=True, replaces=staged.closes)
        if mine.in_parts:
            from penstock.storage.formats.parts.manifests import remove_files  # only needed after a lost race

            remove_files(self._store, mine.files)
        elif mine.payload_name is not None:
            # Otherwise the garbage collector removes them.
            with contextlib.suppress(StoreError):
                self._store.delete(mine.payload_name)
        return Published(slot, won=False)

    def _moved(self, staged: Staged, closed: Restart) -> Staged | Restart:
        """Stage the same value in a later generation, if possible."""
        if not closed.value_stands:
            return closed
        record = staged.record
        later = msgspec.structs.replace(record, generation=closed.generation)
        if record.payload is not None:
            from penstock.storage.results.payload_copying import copy_payload  # formats are loaded with the first value

            try:
                copy_payload(self._store, record, self._store, later)
            except DamagedResult:  # its files were collected, too
                return closed
        return self.staged(later, staged.closes, sign=staged.sign)

    def staged(self, record: ResultRecord, closes: Closing | None, *, sign: bool = True) -> Staged:
        """Return a staged result whose payload is already durable."""
        record, data = self._trust.sealed(record, sign=sign)
        self._counters.add(bytes_written=len(data) + (record.size if record.payload else 0))
        return Staged(record=record, data=data, closes=closes, sign=sign)


def place(after: Found | Absent) -> tuple[int, Closing | None]:
    """Return the generation of a result that follows `after`, and the generation it closes."""
    if isinstance(after, Found):
        return after.generation + 1, (after.generation, "refreshed")
    if after.reason == "expired" or after.reason == "damaged":
        return after.generation + 1, (after.generation, after.reason)
    if after.reason == "unfit":
        return after.generation + 1, (after.generation, "refreshed")
    if after.reason == "rolled back":
        return after.generation + 1, (after.generation, "rollback")
    return after.generation, None
