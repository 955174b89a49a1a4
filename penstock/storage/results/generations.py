"""Finding the current generation of many results at once, and closing generations.

A look-up starts at slot 0 and follows redirects. Whoever closes a later generation also points slot 0 ahead, so a
result costs one read, or two once it has been refreshed, however often that was.
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
    """A published result that has not expired, and can be used here. Nobody changes one."""

    record: ResultRecord
    generation: int
    refused: ResultError | None = None
    """Why nothing of the record may be used: publish after it, or raise this."""

    def damaged(self) -> Absent:
        """What this is once its payload turned out to be gone or damaged: publish after it."""
        return Absent(self.generation, "damaged", self.record)


@dataclass(frozen=True, slots=True)
class Absent:
    """No usable result: the store answered, and the next one is published `after` this."""

    generation: int
    """The one that is looked at last."""
    reason: Literal["never", "expired", "damaged", "unfit", "redirected"]
    """`redirected`: there was a result, its generation is closed, and the next one is not there yet. `unfit`: what is
    there is of no use here."""
    seen: ResultRecord | None = None
    """What is there, where it expired or its payload is damaged."""
    redirect: RedirectRecord | None = None
    """What led here, if anything: says why the generation before was closed."""
    because: str = ""
    """Why it is unfit."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The store did not answer, or answered what this version does not understand. Never the same as absent."""

    error: StoreError


NEVER = Absent(0, "never")
"""What most look-ups of a new flow say: one object for all of them."""

Refusal = Callable[[ResultRecord], ResultError | None]
"""Says why a record may not be used, None if it may."""


def find(
    store: SlotStore, pairs: Sequence[tuple[str, str]], *, now: float, refusal: Refusal | None = None
) -> tuple[list[Found | Absent | Unknown], int]:
    """Where each (task, key) stands, and how many round trips that took: one, and one for each redirect on the way."""
    found: list[Found | Absent | Unknown | None] = [None] * len(pairs)
    pending: list[tuple[int, int, RedirectRecord | None]] = [(i, 0, None) for i in range(len(pairs))]
    trips = 0
    while pending:
        trips += 1
        try:
            answers = store.get_many([slot_name(*pairs[i], generation) for i, generation, _ in pending])
        except StoreRefused:
            raise  # it is known what is wrong, and no other look-up will fare better
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
        # Only ever ahead: a forged or damaged one must not send us in circles.
        return slot if slot.next > generation else Absent(generation, "damaged", None, redirect)
    if slot.expires is not None and slot.expires <= now:
        return Absent(generation, "expired", slot, redirect)
    if slot.about.details and (because := unfit(slot)) is not None:
        return Absent(generation, "unfit", slot, redirect, because)
    return Found(slot, generation)


def read_slot(store: SlotStore, name: str) -> Slot | None:
    """What is in one slot now. Raises as the store, `DamagedResult`, `StoreVersionError`."""
    data = store.get(name)
    return None if data is None else decode_slot_at(data, name)


def redirect_seen(store: SlotStore, folder: str, generation: int, reason: Reason, *, clock: Clock) -> None:
    """Close a generation whose record the caller saw (R2), damaged or not. Doing it twice does no harm."""
    if isinstance(store, RememberedStore):
        store.note_closing(slot_in(folder, generation))
    store.put(slot_in(folder, generation), encode(_redirect(folder, generation, generation, reason, clock)))
    if generation > 0:
        # All below is closed, or nobody would have come here. A short cut only, so failing is no harm; but what it
        # replaces is needed, so it is durable: a power cut must not leave a torn one.
        with contextlib.suppress(StoreError):
            store.put(slot_in(folder, 0), encode(_redirect(folder, 0, generation, reason, clock)))


def close_absent(store: SlotStore, folder: str, generation: int, reason: Reason, *, clock: Clock) -> bool:
    """Close a generation in which nothing is published (R1); False if something is there."""
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
