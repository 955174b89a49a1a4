"""Locks as numbered epochs in a SlotStore: the objects, their names, and why two sessions never hold one key.

The lock of a key is a folder of epoch objects `locks/<hash of the key>/000001`, `000002`, … Only the highest number,
the *top*, counts. It is either *held* by a session or *released* with an outcome. A session that finds no top, a
released top, or a top whose session is dead, tries to create the next number with `put_if_absent`. It holds the key if
that succeeds **and a listing that begins afterwards shows its number as the top**. The number is the fencing token.

The argument assumes that `put_if_absent` is atomic, that a listing shows every name that exists from its beginning to
its end (it need not be a snapshot), and that clocks run at about the same speed. No two clocks are compared.

1. *The top never decreases.* A session deletes an epoch only if it has seen a higher number, so the top itself is
   never deleted: once n exists, a number >= n exists for ever.
2. *Numbers are created in order.* The first creator of n + 1 has read n, and n is not deleted before n + 1 exists. So
   the first creator of n + 1 read the object that the first creator of n wrote, either released by its session or
   with a dead session.
3. *A re-created number is detected.* A contender may be slow: it chooses n; other sessions take n, pass it on and
   delete it; then its `put_if_absent` succeeds. But n was deleted because a higher number existed. By 1 a higher number
   exists when the listing begins, and by 4 the listing shows it. So the contender does not hold the key, and the
   object that it leaves is below the top, where no session reads it.
4. *A listing shows the top with which it began.* Otherwise that top was deleted during the listing. But an epoch is
   deleted no sooner than `SETTLED_SECONDS` after a higher one was seen, and a listing that took more than
   `LISTING_SECONDS`, half of that, is repeated. So the higher number existed before the listing began, and the deleted
   one was not the top.
5. *Therefore holders follow each other.* The holder of n was its first creator (by 3), and by 2 it created n after the
   holder of n - 1 released it or died. The heartbeat ensures that a session counts itself as lost before other
   sessions consider it dead.
6. *A late release is harmless.* To release, the owner overwrites its epoch object with a plain `put`, after checking
   that it is the top. If it is paused in between, the key may pass to another session (only if its own session is lost,
   or its lock was broken). The late `put` then changes an object below the top, or re-creates a deleted one there.
   Neither frees the top. A contender that reads the object tries to create a number that exists, or re-creates one,
   which is case 3.
7. *A lost answer is resolved by reading.* An epoch object names its session. "Taken" may mean taken by the session's
   own earlier try. Its next look finds itself in the top, checks again that this is the top (case 3), and holds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args

from penstock.clocks import Clock
from penstock.errors import LockError
from penstock.locks import documents
from penstock.locks.base import Holder, LockOutcome
from penstock.locks.documents import LAST_NUMBER
from penstock.storage.stores.base import SlotStore

A = TypeVar("A")
B = TypeVar("B")

SETTLED_SECONDS = 10.0
"""The delay after a higher number was seen before lower ones may be deleted. All sessions must use the same."""
LISTING_SECONDS = SETTLED_SECONDS / 2
"""The longest duration of a listing that can be relied on."""

_FOLDER = "locks/"
_LONGEST_KEY = 62_000
"""Bytes of JSON (at most 12 for a character). An epoch object must fit into a record."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch object: the holder of a key, or how the last holder released it."""

    key: str
    number: int
    session_id: str
    info: dict[str, str]
    since: float
    outcome: LockOutcome | None = None
    """None while the key is held."""

    @property
    def held(self) -> bool:
        return self.outcome is None

    def holder(self) -> Holder:
        return Holder(self.key, self.session_id, self.number, self.info, self.since)


class Epochs:
    """The epoch objects of one store. Methods raise what the store raises, and `LockError` for another format."""

    def __init__(self, store: SlotStore, *, clock: Clock, concurrency: int = 1) -> None:
        """`concurrency` is the number of parallel requests for many keys, for remote stores."""
        self._store = store
        self._clock = clock
        self._concurrency = concurrency
        # Numbers that have lower ones below them, and when this was seen. The next holder deletes what is dropped here.
        self._above_old: deque[tuple[float, str, int]] = deque(maxlen=10_000)

    def tops(self, keys: Iterable[str]) -> dict[str, Epoch | None]:
        """Return the top of each key; None for a key that was never locked."""
        tops: dict[str, Epoch | None] = {}
        pending = list(dict.fromkeys(keys))
        while pending:
            numbers = dict(zip(pending, self.each(self._highest, pending), strict=True))
            tops |= dict.fromkeys(pending)
            found = [(key, number) for key, number in numbers.items() if number is not None]
            objects = self._store.get_many([_name(key, number) for key, number in found])
            pending = []
            for (key, number), data in zip(found, objects, strict=True):
                if data is None:
                    pending.append(key)  # deleted since the listing, because the key was passed on
                else:
                    tops[key] = _decoded(data, number, _folder(key), key)
        return tops

    def again(self, seen: Mapping[str, Epoch]) -> dict[str, Epoch | None]:
        """Return the current state of tops that were held when they were seen, without a listing.

        That is the same epoch, the same one released, or the next one; None for an epoch that does not exist. Only a
        hint for waiters that another try is worthwhile.
        """
        names = [_name(key, top.number + above) for key, top in seen.items() for above in (0, 1)]
        objects = iter(self._store.get_many(names))
        answers: dict[str, Epoch | None] = {}
        for (key, top), data, above in zip(seen.items(), objects, objects, strict=False):
            if above is not None:
                answers[key] = _decoded(above, top.number + 1, _folder(key), key)
            else:
                answers[key] = None if data is None else _decoded(data, top.number, _folder(key), key)
        return answers

    def each(self, call: Callable[[A], B], items: Sequence[A]) -> list[B]:
        """Call `call` for each item, in parallel if the store is remote. Raises what the first failing item raises."""
        if self._concurrency == 1 or len(items) < 2:
            return [call(item) for item in items]
        from concurrent.futures import ThreadPoolExecutor  # slow to import, and only remote stores need it

        with ThreadPoolExecutor(min(self._concurrency, len(items)), "penstock-locks") as pool:
            return list(pool.map(call, items))

    def create(self, epoch: Epoch) -> bool:
        """Try to create a number. Returns True if it was free; the key is then held if `is_top` returns True."""
        if epoch.number > LAST_NUMBER:
            raise LockError(
                "the numbers of a lock are used up",
                where=_name(epoch.key, epoch.number - 1),
                because="an object has a number that no lock reaches",
                hint="`penstock locks repair` removes it",
            )
        return self._store.put_if_absent(_name(epoch.key, epoch.number), _encoded(epoch))

    def is_top(self, epoch: Epoch) -> bool:
        """Return whether no higher number exists."""
        begun = self._clock.monotonic()
        numbers = self._numbers(epoch.key)
        while self._clock.monotonic() - begun > LISTING_SECONDS:
            begun = self._clock.monotonic()
            numbers = self._numbers(epoch.key)
        if max(numbers, default=0) != epoch.number:
            return False
        if len(numbers) > 1:
            self._above_old.append((self._clock.monotonic(), epoch.key, epoch.number))
        return True

    def clear_up(self, most: int) -> None:
        """Delete the numbers below this process's epochs, of at most `most` keys, after `SETTLED_SECONDS`."""
        for _ in range(most):
            try:
                entry = self._above_old.popleft()
            except IndexError:
                return
            seen, key, number = entry
            if self._clock.monotonic() - seen < SETTLED_SECONDS:
                self._above_old.appendleft(entry)
                return
            for old in self._numbers(key):
                if old < number:
                    self._store.delete(_name(key, old))

    def overwrite(self, epoch: Epoch) -> None:
        """Release an epoch. Only its owner may call this."""
        # Not durable: a power cut that loses it also ends the owner.
        self._store.put(_name(epoch.key, epoch.number), _encoded(epoch), durable=False)

    def all_tops(self) -> list[Epoch]:
        """Return the top of every key."""
        numbers = self._top_numbers()
        objects = self._store.get_many([f"{folder}{number:06d}" for folder, number in numbers.items()])
        return [
            _decoded(data, number, folder)
            for data, (folder, number) in zip(objects, numbers.items(), strict=True)
            if data is not None  # passed on since the listing
        ]

    def unreadable(self) -> Iterator[tuple[str, str, bool]]:
        """Yield the tops that cannot be read: name, reason, and whether another version may have written it."""
        numbers = self._top_numbers()
        names = [f"{folder}{number:06d}" for folder, number in numbers.items()]
        for name, (folder, number), data in zip(names, numbers.items(), self._store.get_many(names), strict=True):
            try:
                if data is not None and not _decoded(data, number, folder).session_id:
                    yield name, "its holder or outcome cannot be read", False
            except LockError as error:
                yield name, error.because, True

    def release_above(self, name: str, now: float) -> None:
        """Write a released number above a top that cannot be read. Does nothing if it exists meanwhile."""
        folder, _, number = name.rpartition("/")
        released = Epoch("", int(number) + 1, "repair", {}, now, "abandoned")
        self._store.put_if_absent(f"{folder}/{released.number:06d}", _encoded(released))

    def without_next(self) -> list[tuple[str, str]]:
        """Return the names with the highest possible number, and the reason: no session could hold their keys."""
        names = [entry.name for entry in self._store.list(_FOLDER)]
        numbers = [(name, number) for name in names if _NUMBER.fullmatch(number := name.rpartition("/")[2])]
        return [(name, "no lock reaches this number") for name, number in numbers if int(number) >= LAST_NUMBER]

    def remove(self, names: Iterable[str]) -> None:
        """Delete objects that no session wrote."""
        for name in names:
            self._store.delete(name)

    def _top_numbers(self) -> dict[str, int]:
        """Return the top number in the folder of each key."""
        numbers: dict[str, int] = {}
        for entry in self._store.list(_FOLDER):
            folder, _, number = entry.name.rpartition("/")
            if _NUMBER.fullmatch(number):
                numbers[f"{folder}/"] = max(numbers.get(f"{folder}/", 0), int(number))
        return numbers

    def _highest(self, key: str) -> int | None:
        return max(self._numbers(key), default=None)

    def _numbers(self, key: str) -> list[int]:
        names = (entry.name.rpartition("/")[2] for entry in self._store.list(_folder(key)))
        # A name that is only similar was not written by a session: the name for its number would never exist.
        return [int(name) for name in names if _NUMBER.fullmatch(name)]


_NUMBER = re.compile(r"[0-9]{6}|[1-9][0-9]{6,17}")


def _folder(key: str) -> str:
    # Any string is a key, including lone surrogates. None of its characters is part of a name in the store.
    return f"{_FOLDER}{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}/"


def _name(key: str, number: int) -> str:
    return f"{_folder(key)}{number:06d}"


def _encoded(epoch: Epoch) -> bytes:
    fields = {
        "v": documents.FORMAT,
        "key": _told(epoch.key),
        "session_id": epoch.session_id,
        "info": epoch.info,
        "since": epoch.since,
        "outcome": epoch.outcome,
    }
    return json.dumps(fields).encode("ascii")


def _told(key: str) -> str:
    """Return the copy of a key in its epochs, for display. The folder's name identifies the key."""
    whole = len(key) < _LONGEST_KEY // 12 or len(json.dumps(key)) <= _LONGEST_KEY
    return key if whole else key[:1000] + "…"


def _decoded(data: bytes, number: int, folder: str, key: str | None = None) -> Epoch:
    """Return the epoch of an object in the folder of a key.

    A damaged object (after a power cut, for example) or one of another key counts as released: its session has ended,
    and the next number is above it.
    """
    fields = documents.fields_of(data, "an epoch of a lock")
    try:
        outcome, told = fields["outcome"], fields["key"]
        if outcome is None:
            if not isinstance(told, str) or (told != _told(key) if key is not None else not _may_lie_in(folder, told)):
                raise documents.Damaged("another key's")
        elif outcome not in get_args(LockOutcome):
            raise documents.Damaged("no outcome")
        return Epoch(
            key=str(told) if key is None else key,
            number=number,
            session_id=documents.identity(fields["session_id"]),
            info=documents.info(fields.get("info")),
            since=documents.moment(fields.get("since")),
            outcome=outcome,
        )
    except (KeyError, documents.Damaged):
        return Epoch(key or "", number, session_id="", info={}, since=0.0, outcome="abandoned")


def _may_lie_in(folder: str, told: str) -> bool:
    return told.endswith("…") or _folder(told) == folder
