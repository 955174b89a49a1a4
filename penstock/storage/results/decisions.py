"""What became of transactions: their decisions, made once and remembered.

R6 An intent is a result if, and only if, the decision about its transaction is to commit. There is at most one
decision, made by `put_if_absent`. An intent without a decision is no result for anyone outside its transaction. One
that was rolled back may be closed like any record (R2); one that was committed stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from penstock.clocks import Clock, pause_after
from penstock.errors import DamagedResult, StoreError, StoreUnreachable
from penstock.storage.records.encoding import decode_decision
from penstock.storage.records.names import decision_name
from penstock.storage.records.records import (
    RECORD_VERSION,
    IntentRecord,
    RedirectRecord,
    Slot,
)
from penstock.storage.records.transactions import Decision, TransactionOutcome, outermost
from penstock.storage.results.trust import Trust
from penstock.storage.stores.base import SlotStore

_TRIES = 6
_MOST_REMEMBERED = 100_000


class Decisions:
    """The decisions about transactions in one store. Safe for use by several threads."""

    def __init__(self, store: SlotStore, trust: Trust, clock: Clock) -> None:
        self._store = store
        self._trust = trust
        self._clock = clock
        self._known: dict[str, Decision] = {}
        """They never change."""
        self._unreadable: dict[str, StoreError] = {}
        """The transactions whose decisions could not be read when they were last looked up."""

    def of(self, paths: Iterable[str]) -> int:
        """Look up the decisions about transactions, and remember them. Return the number of round trips: at most one.

        One that cannot be read concerns its own transaction only (`error`). Raises the errors of `Store.get_many`.
        """
        names: dict[str, str] = {}
        for id in dict.fromkeys(map(outermost, paths)):
            if id not in self._known:
                try:
                    names[id] = decision_name(id)
                except StoreError as error:  # whoever wrote this intent invented the name
                    self._unreadable[id] = error
        if not names:
            return 0
        for id, data in zip(names, self._store.get_many(list(names.values())), strict=True):
            self._unreadable.pop(id, None)
            if data is not None:
                try:
                    self._remember(self._read(id, data))
                except StoreError as error:
                    self._unreadable[id] = error
        return 1

    def error(self, path: str) -> StoreError | None:
        """Return why the decision about a transaction could not be read. Its intents then count as undecided."""
        return self._unreadable.get(outermost(path))

    def meaning(self, slot: Slot, *, inside: str = "") -> Slot:
        """Return what a slot means by the decisions that `of` has looked up.

        Args:
            slot: A slot.
            inside: The path of the reader's own transaction, whose results it can see.

        Returns:
            The result of an intent that was committed, a redirect for one that was rolled back, an intent that is
            undecided, and any other slot itself.
        """
        if not isinstance(slot, IntentRecord):
            return slot
        decision = self._known.get(outermost(slot.transaction))
        if decision is None:
            own = inside and outermost(inside) == outermost(slot.transaction)
            return slot.result if own else slot
        return slot.result if decision.commits(slot.transaction) else _closed(slot)

    def settled(self, slot: Slot | None, *, inside: str = "") -> Slot | None:
        """Return what `meaning` does, looking up the decision. Raises the errors of `of`."""
        return next(iter(self.all_settled([slot], inside=inside)))

    def all_settled(self, slots: Sequence[Slot | None], *, inside: str = "") -> list[Slot | None]:
        """Return what `meaning` does for each slot, looking up all decisions at once. Raises the errors of `of`."""
        self.of(slot.transaction for slot in slots if isinstance(slot, IntentRecord))
        return [slot if slot is None else self.meaning(slot, inside=inside) for slot in slots]

    def decide(
        self, id: str, outcome: TransactionOutcome, *, without: Iterable[str] = (), because: str = ""
    ) -> Decision:
        """Decide what becomes of a transaction, or return what somebody else has decided before.

        Args:
            id: The id of an outermost transaction.
            outcome: What should become of it.
            without: The paths of the transactions inside it that were rolled back.
            because: Why it is rolled back, for people.

        Raises:
            StoreUnreachable: It is unknown whether it was decided. A later look-up shows it.
            StoreError: The store is full, not writable, or the decision is too large; or it cannot be read.
        """
        known = self._known.get(id)
        if known is not None:
            return known
        mine = Decision(
            transaction=id, outcome=outcome, without=sorted(without), because=because, created=self._clock.now()
        )
        data, name = self._trust.sealed_decision(mine), decision_name(id)
        unclear: StoreUnreachable | None = None
        for failures in range(_TRIES):
            if failures:
                pause_after(failures, self._clock)
            try:
                if self._store.put_if_absent(name, data):
                    return self._remember(mine)
                found = self._store.get(name)
            except StoreUnreachable as error:  # it may have been written: only reading it tells (R4)
                unclear = error
                continue
            if found is not None:
                return self._remember(self._read(id, found))
        raise StoreUnreachable(
            f"it is unknown what became of the transaction {id}",
            where=name,
            because=(unclear.because or unclear.what) if unclear else "its decision appears and disappears",
            hint="run it again when the store can be reached: what was committed is found",
        ) from unclear

    def __reduce__(self) -> tuple[Any, ...]:
        return Decisions, (self._store, self._trust, self._clock)

    def _remember(self, decision: Decision) -> Decision:
        if len(self._known) >= _MOST_REMEMBERED:
            self._known = {}  # other threads may be reading the old one
        self._known[decision.transaction] = decision
        return decision

    def _read(self, id: str, data: bytes) -> Decision:
        try:
            decision = decode_decision(data, id)
        except DamagedResult as error:
            raise StoreError(
                f"the decision about the transaction {id} is damaged", where=decision_name(id), because=error.because
            ) from error
        if not self._trust.believes_decision(decision):
            raise StoreError(
                f"the decision about the transaction {id} is not signed as it must be",
                where=decision_name(id),
                because="someone without the key wrote it",
            )
        return decision


def _closed(intent: IntentRecord) -> RedirectRecord:
    """Return the redirect that may replace an intent that was rolled back."""
    result = intent.result
    return RedirectRecord(
        v=RECORD_VERSION,
        slot=result.slot_name,
        generation=result.generation,
        next=result.generation + 1,
        reason="rollback",
    )
