"""Finding the current generation of many results at once, and closing generations.

A lookup starts at slot 0 and follows redirects. Closing a later generation also updates slot 0 to point ahead, so a
lookup takes one read, or two if the result was refreshed, however often.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from penstock.clocks import Clock
from penstock.errors import DamagedResult, ResultError, StoreError, StoreRefused, StoreVersionError
from penstock.storage.formats.fitness import unfit
from penstock.storage.records.encoding import decode_slot, decode_slot_at, encode
from penstock.storage.records.names import slot_in, slot_name
from penstock.storage.records.records import RECORD_VERSION, Reason, RedirectRecord, ResultRecord, Slot
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
    reason: Literal["never", "expired", "damaged", "unfit", "redirected"]
    """`redirected`: the previous generation is closed, and there is no new result yet. `unfit`: the result cannot be
    used in this environment."""
    seen: ResultRecord | None = None
    """The record, if it expired or its payload is damaged."""
    redirect: RedirectRecord | None = None
    """The redirect to this generation, if any, with the reason why the previous one was closed."""
    because: str = ""
    """Why it is unfit."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The store did not answer, or has a record that this version does not understand. Never treated as absent."""

    error: StoreError


NEVER = Absent(0, "never")
"""A shared instance for the most common answer."""

Refusal = Callable[[ResultRecord], ResultError | None]
"""Returns the error for a record that must not be used, or None."""


def find(
    store: SlotStore, pairs: Sequence[tuple[str, str]], *, now: float, refusal: Refusal | None = None
) -> tuple[list[Found | Absent | Unknown], int]:
    """Look up each (task, key). Also return the number of round trips: one, and one more for each redirect."""
    found: list[Found | Absent | Unknown | None] = [None] * len(pairs)
    pending: list[tuple[int, int, RedirectRecord | None]] = [(i, 0, None) for i in range(len(pairs))]
    trips = 0
    while pending:
        trips += 1
        try:
            answers = store.get_many([slot_name(*pairs[i], generation) for i, generation, _ in pending])
        except StoreRefused:
            raise  # not temporary, and the same for all lookups
        except StoreError as error:
            for i, _, _ in pending:
                found[i] = Unknown(error)
            break
        further: list[tuple[int, int, RedirectRecord | None]] = []
        for (i, generation, redirect), data in zip(pending, answers, strict=True):
            step = _judge(data, *pairs[i], generation, redirect, now)
            if isinstance(step, RedirectRecord):
                further.append((i, step.next, step))
            elif refusal is not None and isinstance(step, Found):
                found[i] = Found(step.record, step.generation, refusal(step.record))
            else:
                found[i] = step
        pending = further
    return [each for each in found if each is not None], trips


def _judge(
    data: bytes | None, task: str, key: str, generation: int, redirect: RedirectRecord | None, now: float
) -> Found | Absent | Unknown | RedirectRecord:
    if data is None:
        if redirect is not None:
            return Absent(generation, "redirected", None, redirect)
        return Absent(generation, "never") if generation else NEVER
    try:
        slot = decode_slot(data, task=task, key=key, generation=generation)
    except StoreVersionError as error:
        return Unknown(error)
    except DamagedResult:
        return Absent(generation, "damaged", None, redirect)
    if isinstance(slot, RedirectRecord):
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
    """Close a generation whose record, damaged or not, the caller has read (R2). Idempotent."""
    if isinstance(store, RememberedStore):
        store.note_closing(slot_in(folder, generation))
    store.put(slot_in(folder, generation), encode(_redirect(folder, generation, generation, reason, clock)))
    if generation > 0:
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
