"""Locks as numbered epochs in a SlotStore: the objects, their names, and why two sessions never hold one key.

The lock of a key is a folder of epoch objects `locks/<hash of the key>/000001`, `000002`, … Only the highest, the
*top*, counts. It says *held* by a session, or *released* with an outcome. Whoever finds no top, a released one, or
one whose session is dead, tries to create the next number with `put_if_absent`, and holds the key if it succeeds
**and a listing begun afterwards shows its number as the top**. The number is the fencing token.

The argument. It needs `put_if_absent` to be atomic, a listing to show every name that is there from its beginning to
its end (it need not be a snapshot), and clocks that run at about the same speed; no two clocks are compared.

1. *The top never goes down.* An epoch is deleted only by a session that has seen a higher number, so the top itself is
   never deleted: once n exists, something >= n exists for ever.
2. *Numbers come up in order.* n + 1 is first created by someone who read n, and n is not deleted before n + 1 existed.
   So the first creator of n + 1 read the very object that the first creator of n wrote: released by its session,
   or its session dead.
3. *A re-created number is noticed.* A contender may be slow: it decides for n, others take n, pass it on and delete
   it, and then its `put_if_absent` succeeds. But n was deleted because a higher number existed, so by 1 a higher one
   exists when the listing begins, and by 4 the listing shows one. The contender holds nothing then, and the object it
   leaves lies below the top, where nobody looks.
4. *A listing shows the top it began with.* Otherwise that top was deleted during the listing. But an epoch is deleted
   no sooner than `SETTLED_SECONDS` after a higher one was seen, and a listing that took more than `LISTING_SECONDS`,
   half of that, is done again. So the higher one was there before the listing began: it was not the top.
5. *So holders follow each other.* Whoever holds n was its first creator (by 3), and by 2 it became that after the
   holder of n - 1 released or died. That a session which looks dead to others counts itself as lost earlier is the
   heartbeat's part.
6. *A late release is harmless.* To release, the owner overwrites its own epoch object with a plain `put`, after
   checking that it is the top. If it is paused in between, the key may have passed on (only if its session is lost,
   or its lock was broken): the late `put` then changes an object below the top, or brings a deleted one back there.
   Neither can make the top free. A contender that reads it goes on to create a number that exists, or to re-create
   one, which is case 3.
7. *A lost answer is settled by reading.* An epoch object names its session. "Taken" may mean taken by our own earlier
   try; the next look finds our own session in the top, checks again that it is the top (case 3), and holds.
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
from penstock.locks.base import Holder, Outcome
from penstock.locks.documents import LAST_NUMBER
from penstock.storage.stores.base import SlotStore

A = TypeVar("A")
B = TypeVar("B")

SETTLED_SECONDS = 10.0
"""How long after a higher number was seen the lower ones may be deleted. The same for all that share locks."""
LISTING_SECONDS = SETTLED_SECONDS / 2
"""A listing that took longer proves nothing."""

_FOLDER = "locks/"
_LONGEST_KEY = 62_000
"""Bytes of JSON (12 for a character at most); an epoch object has to fit into a record."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch object: who holds a key, or how the last holder let go."""

    key: str
    number: int
    session_id: str
    info: dict[str, str]
    since: float
    outcome: Outcome | None = None
    """None while held."""

    @property
    def held(self) -> bool:
        return self.outcome is None

    def holder(self) -> Holder:
        return Holder(self.key, self.session_id, self.number, self.info, self.since)


class Epochs:
    """The epoch objects of one store. Raises what the store raises, and `LockError` for objects nobody can read."""

    def __init__(self, store: SlotStore, *, clock: Clock, concurrency: int = 1) -> None:
        """`concurrency` requests are under way at once where many keys are asked for: for stores far away."""
        self._store = store
        self._clock = clock
        self._concurrency = concurrency
        # Numbers that have lower ones below them, and when we saw that. What is forgotten, the next holder deletes.
        self._above_old: deque[tuple[float, str, int]] = deque(maxlen=10_000)

    def tops(self, keys: Iterable[str]) -> dict[str, Epoch | None]:
        """The top of each key, None for a key that was never locked."""
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
                    pending.append(key)  # passed on so often since the listing that this one was deleted
                else:
                    tops[key] = _decoded(data, number, _folder(key), key)
        return tops

    def again(self, seen: Mapping[str, Epoch]) -> dict[str, Epoch | None]:
        """What became of tops that were held when they were seen, without listing: the same, released, or another one
        above. None for one that is gone. For waiters alone: a hint that it is worth to try again."""
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
        """`call` for each item, several at a time if the store is far away; raises what the first of them raises."""
        if self._concurrency == 1 or len(items) < 2:
            return [call(item) for item in items]
        from concurrent.futures import ThreadPoolExecutor  # the time it takes to import is for stores far away

        with ThreadPoolExecutor(min(self._concurrency, len(items)), "penstock-locks") as pool:
            return list(pool.map(call, items))

    def create(self, epoch: Epoch) -> bool:
        """One step towards holding: True if the number was free. It is held only if `is_top` says so afterwards."""
        if epoch.number > LAST_NUMBER:
            raise LockError(
                "the numbers of a lock are used up",
                where=_name(epoch.key, epoch.number - 1),
                because="somebody wrote one that no lock reaches",
                hint="`penstock locks repair` removes it",
            )
        return self._store.put_if_absent(_name(epoch.key, epoch.number), _encoded(epoch))

    def is_top(self, epoch: Epoch) -> bool:
        """True if no higher number exists."""
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
        """Delete what lies below epochs that were ours, of at most so many keys, where it is settled."""
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
        """For the owner of an epoch alone, to release it."""
        # Nor durable: a power cut that takes it takes the owner as well.
        self._store.put(_name(epoch.key, epoch.number), _encoded(epoch), durable=False)

    def all_tops(self) -> list[Epoch]:
        """The top of every key there is."""
        numbers = self._top_numbers()
        objects = self._store.get_many([f"{folder}{number:06d}" for folder, number in numbers.items()])
        return [
            _decoded(data, number, folder)
            for data, (folder, number) in zip(objects, numbers.items(), strict=True)
            if data is not None  # passed on since the listing
        ]

    def unreadable(self) -> Iterator[tuple[str, str, bool]]:
        """The tops that nobody can read: their names, what is wrong, and whether another version may have written
        them."""
        numbers = self._top_numbers()
        names = [f"{folder}{number:06d}" for folder, number in numbers.items()]
        for name, (folder, number), data in zip(names, numbers.items(), self._store.get_many(names), strict=True):
            try:
                if data is not None and not _decoded(data, number, folder).session_id:
                    yield name, "nobody can read who holds it, or how it was let go", False
            except LockError as error:
                yield name, error.because, True

    def release_above(self, name: str, now: float) -> None:
        """Put a released number above a top that cannot be read. Does nothing if somebody did so meanwhile."""
        folder, _, number = name.rpartition("/")
        released = Epoch("", int(number) + 1, "repair", {}, now, "abandoned")
        self._store.put_if_absent(f"{folder}/{released.number:06d}", _encoded(released))

    def without_next(self) -> list[tuple[str, str]]:
        """Names with numbers that no lock reaches: nobody could hold one that is above them."""
        names = [entry.name for entry in self._store.list(_FOLDER)]
        numbers = [(name, number) for name in names if _NUMBER.fullmatch(number := name.rpartition("/")[2])]
        return [(name, "no lock was passed on so often") for name, number in numbers if int(number) >= LAST_NUMBER]

    def remove(self, names: Iterable[str]) -> None:
        """Delete objects that no session wrote."""
        for name in names:
            self._store.delete(name)

    def _top_numbers(self) -> dict[str, int]:
        """The top of every folder of a key."""
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
        # What is called almost so is somebody else's: under our own name for that number there would be nothing, ever.
        return [int(name) for name in names if _NUMBER.fullmatch(name)]


_NUMBER = re.compile(r"[0-9]{6}|[1-9][0-9]{6,17}")


def _folder(key: str) -> str:
    # Any string is a key, lone surrogates included; none of its characters reaches the store.
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
    """The copy of a key that lies in its epochs, for people: the folder's name is its identity."""
    whole = len(key) < _LONGEST_KEY // 12 or len(json.dumps(key)) <= _LONGEST_KEY
    return key if whole else key[:1000] + "…"


def _decoded(data: bytes, number: int, folder: str, key: str | None = None) -> Epoch:
    """What an epoch object in the folder of a key says. One that is damaged, as a power cut may leave it, or that lay
    elsewhere is as good as released: whoever wrote it is no more, and the next number is above it."""
    fields = documents.fields_of(data, "an epoch of a lock")
    try:
        outcome, told = fields["outcome"], fields["key"]
        if outcome is None:
            if not isinstance(told, str) or (told != _told(key) if key is not None else not _may_lie_in(folder, told)):
                raise documents.Damaged("another key's")
        elif outcome not in get_args(Outcome):
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
