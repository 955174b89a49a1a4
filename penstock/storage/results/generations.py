"""Finding the current generation of many results at once, and closing generations.

A lookup starts at slot 0 and follows redirects. Closing a later generation also updates slot 0 to point ahead, so a
lookup takes one read, or two if the result was refreshed, however often.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from penstock.clocks import Clock
from penstock.errors import DamagedResult, ResultError, StoreError, StoreRefused, StoreVersionError
from penstock.storage.formats.fitness import unfit
from penstock.storage.records.encoding import decode_slot, decode_slot_at, encode
from penstock.storage.records.names import slot_in, slot_name
from penstock.storage.records.records import RECORD_VERSION, IntentRecord, Reason, RedirectRecord, ResultRecord, Slot
from penstock.storage.results.decisions import Decisions
from penstock.storage.stores.base import RememberedStore, SlotStore


@dataclass(slots=True)
class Found:
    """A published result that has not expired and can be used here. Never modified."""

    record: ResultRecord
    generation: int
    refused: ResultError | None = None
    """Set if the record must not be used: publish after it, or raise this error."""

    def damaged(self) -> Absent:
        """Return what replaces this if its payload turns out to be missing or damaged: publish after it."""
        return Absent(self.generation, "damaged", self.record)


@dataclass(frozen=True, slots=True)
class Absent:
    """The store answered, but has no usable result. The next one is published `after` this."""

    generation: int
    """The last generation that was read."""
    reason: Literal["never", "expired", "damaged", "unfit", "redirected", "undecided", "rolled back"]
    """`redirected`: the previous generation is closed, and there is no new result yet. `unfit`: the result cannot be
    used in this environment. `undecided`: its transaction may still be committed. `rolled back`: it will not be."""
    seen: ResultRecord | None = None
    """The record, if it expired or its payload is damaged."""
    redirect: RedirectRecord | None = None
    """The redirect to this generation, if any, with the reason why the previous one was closed."""
    because: str = ""
    """Why it is unfit."""
    transaction: str = ""
    """The path of its transaction, if that is undecided or was rolled back."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The store did not answer, or has a record that this version does not understand. Never treated as absent."""

    error: StoreError


NEVER = Absent(0, "never")
"""A shared instance for the most common answer."""

Refusal = Callable[[ResultRecord], ResultError | None]
"""Returns the error for a record that must not be used, or None."""


def find(
    store: SlotStore,
    pairs: Sequence[tuple[str, str]],
    *,
    now: float,
    refusal: Refusal | None = None,
    decisions: Decisions,
    inside: str = "",
) -> tuple[list[Found | Absent | Unknown], int]:
    """Look up each (task, key).

    Args:
        store: The store.
        pairs: Tasks and keys.
        now: The present, for expiry.
        refusal: Judges the records.
        decisions: What became of transactions.
        inside: The path of the reader's own transaction, whose results it sees.

    Returns:
        The answers, and the number of round trips: one, one more for each redirect, and one for decisions.
    """
    found: list[Found | Absent | Unknown | None] = [None] * len(pairs)
    pending = [_Look(i, *pair) for i, pair in enumerate(pairs)]
    trips = 0
    while pending:
        trips += 1
        try:
            answers = store.get_many([look.slot_name for look in pending])
            slots = [_decoded(data, look) for data, look in zip(answers, pending, strict=True)]
            trips += decisions.of(slot.transaction for slot in slots if isinstance(slot, IntentRecord))
        except StoreRefused:
            raise  # not temporary, and the same for all lookups
        except StoreError as error:
            for look in pending:
                found[look.index] = Unknown(error)
            break
        further: list[_Look] = []
        for look, slot in zip(pending, slots, strict=True):
            step = _judge(slot, look, now, decisions, inside)
            if isinstance(step, RedirectRecord):
                further.append(replace(look, generation=step.next, redirect=step))
            elif refusal is not None and isinstance(step, Found):
                found[look.index] = Found(step.record, step.generation, refusal(step.record))
            else:
                found[look.index] = step
        pending = further
    return [each for each in found if each is not None], trips


@dataclass(slots=True)
class _Look:
    """One look-up under way."""

    index: int
    task: str
    key: str
    generation: int = 0
    redirect: RedirectRecord | None = None

    @property
    def slot_name(self) -> str:
        return slot_name(self.task, self.key, self.generation)


def _decoded(data: bytes | None, look: _Look) -> Slot | StoreVersionError | DamagedResult | None:
    if data is None:
        return None
    try:
        return decode_slot(data, task=look.task, key=look.key, generation=look.generation)
    except (StoreVersionError, DamagedResult) as error:
        return error


def _judge(
    found: Slot | StoreVersionError | DamagedResult | None,
    look: _Look,
    now: float,
    decisions: Decisions,
    inside: str,
) -> Found | Absent | Unknown | RedirectRecord:
    generation, redirect = look.generation, look.redirect
    if found is None:
        if redirect is not None:
            return Absent(generation, "redirected", None, redirect)
        return Absent(generation, "never") if generation else NEVER
    if isinstance(found, StoreVersionError):
        return Unknown(found)
    if isinstance(found, DamagedResult):
        return Absent(generation, "damaged", None, redirect)
    slot = decisions.meaning(found, inside=inside)
    if isinstance(slot, IntentRecord):
        if (error := decisions.error(slot.transaction)) is not None:
            return Unknown(error)
        return Absent(generation, "undecided", None, redirect, transaction=slot.transaction)
    if isinstance(slot, RedirectRecord):
        if isinstance(found, IntentRecord):
            return Absent(generation, "rolled back", None, redirect, transaction=found.transaction)
        # Only forward, so that a forged or damaged redirect cannot cause a loop.
        return slot if slot.next > generation else Absent(generation, "damaged", None, redirect)
    if slot.expires is not None and slot.expires <= now:
        return Absent(generation, "expired", slot, redirect)
    if slot.about.details and (because := unfit(slot)) is not None:
        return Absent(generation, "unfit", slot, redirect, because)
    return Found(slot, generation)


def read_slot(store: SlotStore, name: str) -> Slot | None:
    """Read a slot. Raises the store's errors, `DamagedResult` and `StoreVersionError`."""
    data = store.get(name)
    return None if data is None else decode_slot_at(data, name)


def redirect_seen(store: SlotStore, folder: str, generation: int, reason: Reason, *, clock: Clock) -> None:
    """Close a generation whose record, damaged or not, the caller has read (R2). Idempotent.

    A generation that was rolled back is closed alone: that before it, which it would have replaced, may still be open.
    """
    if isinstance(store, RememberedStore):
        store.note_closing(slot_in(folder, generation))
    store.put(slot_in(folder, generation), encode(_redirect(folder, generation, generation, reason, clock)))
    if generation > 0 and reason != "rollback":
        # All earlier generations are closed. This is only a short cut, so it may fail; but the record it replaces is
        # needed, so it must be written durably.
        with contextlib.suppress(StoreError):
            store.put(slot_in(folder, 0), encode(_redirect(folder, 0, generation, reason, clock)))


def close_absent(store: SlotStore, folder: str, generation: int, reason: Reason, *, clock: Clock) -> bool:
    """Close a generation in which nothing is published (R1). Return False if there is a record."""
    record = _redirect(folder, generation, generation, reason, clock)
    return store.put_if_absent(slot_in(folder, generation), encode(record))


def _redirect(folder: str, generation: int, closed: int, reason: Reason, clock: Clock) -> RedirectRecord:
    return RedirectRecord(
        v=RECORD_VERSION,
        slot=slot_in(folder, generation),
        generation=generation,
        next=closed + 1,
        reason=reason,
        created=clock.now(),
    )
