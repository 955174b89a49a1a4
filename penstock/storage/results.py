"""Results over a store: looked up in batches, published once per generation, read back verified.

The rules (docs/protocol.md has the argument):

* R1 a slot goes from absent to a record or a redirect by `put_if_absent` only.
* R2 a record becomes a redirect by a plain put, and only by someone who saw that record. A redirect stays one.
* R3 the payload is durable before the record that names its attempt.
* R4 every outcome but a clean success is settled by reading the slot: own attempt = won, another's = adopted, a
  redirect = start again, nothing = send again.
* R5 an attempt removes its own payload only after it *read* another attempt's record in that slot.

(R6 is about transactions, which decide over staged results together.)
"""

from __future__ import annotations

import contextlib
import os
import platform
import random
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import msgspec

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.errors import (
    CodecRefused,
    DamagedResult,
    StoreError,
    StoreRefused,
    StoreUnreachable,
    StoreVersionError,
)
from penstock.storage.choosing import serializer_for
from penstock.storage.parts import Digests, remove_files
from penstock.storage.payloads import Place, as_inline, read_value, write_payload
from penstock.storage.records import (
    FORMAT_NAME,
    FORMAT_VERSION,
    NOT_INLINE,
    RECORD_VERSION,
    Producer,
    Reason,
    RecipeEntry,
    RedirectRecord,
    ResultRecord,
    StoreFormat,
    check_format,
    decode_recipe,
    encode,
    key_folder,
    recipe_name,
    slot_in,
)
from penstock.storage.serializers import Serializer
from penstock.storage.signing import Signatures
from penstock.storage.slots import Absent, Found, Unknown, close_absent, find, read_slot, redirect_seen
from penstock.storage.stores import RememberedStore, Store
from penstock.storage.trust import Trust

COMMIT_SECONDS = 30.0
"""How long a commit tries to learn its outcome before it is unknown."""
COMMIT_TRIES = 6
_FIRST_DELAY = 0.05


@dataclass(frozen=True, slots=True)
class Staged:
    """A result whose payload is durable and which nobody sees yet: `commit` it, or leave it to `gc`."""

    record: ResultRecord
    data: bytes
    """The record as it will be written."""
    closes: tuple[int, Reason] | None
    """The generation that the record replaces, and why; closed just before the commit."""
    value: Any
    """Kept so that the result can be staged again if its generation was closed meanwhile."""
    serializer: Serializer
    sign: bool = True
    """Whether the record is to be signed, where results are."""


@dataclass(frozen=True, slots=True)
class Published:
    """The result of this key and generation, which every caller gets."""

    record: ResultRecord
    won: bool
    """False: another attempt was first and `record` is its. Another digest: the task is not deterministic."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Nothing was published: the generation was closed meanwhile (invalidated, say). Look up again, and run again."""

    generation: int
    """The one to go on in."""
    reason: Reason


class Counters:
    """What a ResultStore asked of its store. Safe for threads; a copy in another process counts for itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.lookups = 0
        """Results asked for."""
        self.round_trips = 0
        """Batches that look-ups and recipes took."""
        self.bytes_read = 0
        """Of values loaded."""
        self.bytes_written = 0
        """Of payloads and records staged."""

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


class ResultStore:
    """The results in a store, by task and key (any strings). Safe for threads; may be pickled if its store may be.

    Promised: at most one visible result per key and generation, and every caller gets that one, whoever crashes when,
    with the bytes that were written. Not promised: which of several attempts that is.

    `allow_pickle` None accepts pickles where the store is trusted, and signed ones; False accepts none. With
    `signatures` everything that is written is signed; they also say what is read (docs/security.md). `max_bytes`
    bounds what one value may need to be read, by default this machine's memory.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock = SYSTEM_CLOCK,
        allow_pickle: bool | None = None,
        signatures: Signatures | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.counters = Counters()
        self.trust = Trust(store, signatures=signatures, allow_pickle=allow_pickle)
        self._max_bytes = max_bytes or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._format_read = False
        self._format_written = False
        self._remembered = store if isinstance(store, RememberedStore) else None

    # -- looking up

    def look_up(self, task: str, key: str) -> Found | Absent:
        """Where one result stands. Raises `StoreError` where `look_up_many` says `Unknown`."""
        (found,) = self.look_up_many([(task, key)])
        if isinstance(found, Unknown):
            raise found.error
        return found

    def look_up_many(self, pairs: Sequence[tuple[str, str]]) -> list[Found | Absent | Unknown]:
        """Where each (task, key) stands, in the order given, without reading any value.

        One round trip, and one more where results have been refreshed. Raises `StoreVersionError` if a newer Penstock
        laid out the store and `StoreRefused` if it will not let us read; other trouble is `Unknown`, for all that it
        concerns. A result whose signature is not as it has to be is `Found` and `refused`.
        """
        try:
            self._check_format()
        except (StoreRefused, StoreVersionError):
            raise
        except StoreError as error:
            return [Unknown(error)] * len(pairs)
        refusal = None if self.trust.signatures is None else self.trust.refusal
        found, trips = find(self.store, pairs, now=self.clock.now(), refusal=refusal)
        self.counters.add(lookups=len(pairs), round_trips=trips)
        return found

    def load(self, record: ResultRecord) -> Any:
        """The value of a record: a new object each time, equal to what was published.

        Raises `DamagedResult` if the bytes are gone or not the ones written (publish after `Found.damaged()`; its data
        say `closed=True` if the generation was closed since the look-up: then look up again), `CodecRefused` and
        `SignatureRefused` (both before a byte is read), `SerializationError` if the code to read it back is missing,
        and `StoreUnreachable`.
        """
        allow_pickle = self.trust.allows_pickle(record)
        with self._looking_twice(record):
            value = read_value(self.store, record, allow_pickle=allow_pickle, limit=self._max_bytes)
        if not record.in_parts:
            self.counters.add(bytes_read=record.size)
        return value

    def scan(self, record: ResultRecord) -> Any:
        """The table of a record as a `pyarrow.dataset.Dataset`, of which only what is asked for is read.

        See `StoredResult.scan` for what is verified. Raises `SerializationError` for what is no table, and else as
        `load`.
        """
        from penstock.storage.scanning import scan  # with pyarrow's datasets, for those who scan

        self.trust.allows_pickle(record)  # raises for what must not be used, whatever it is
        with self._looking_twice(record):
            return scan(self.store, record)

    @contextlib.contextmanager
    def _looking_twice(self, record: ResultRecord) -> Iterator[None]:
        try:
            yield
        except DamagedResult as error:
            # A second look: whoever closes a generation may delete its payloads right after.
            with contextlib.suppress(DamagedResult):
                slot = read_slot(self.store, record.slot_name)
                error.data["closed"] = isinstance(slot, RedirectRecord)
            raise

    # -- publishing

    def publish(self, task: str, key: str, value: Any, **staging: Any) -> Published | Restart:
        """`stage` and `commit` in one."""
        return self.commit(self.stage(task, key, value, **staging))

    def stage(
        self,
        task: str,
        key: str,
        value: Any,
        *,
        after: Found | Absent,
        attempt: str,
        digest: str | Callable[[], str],
        session: str = "",
        fence: int = 0,
        key_parts: dict[str, Any] | None = None,
        expires: float | None = None,
        upstream_expires: float | None = None,
        producer: Producer | None = None,
        started: float = 0.0,
        seconds: float = 0.0,
        serializer: str | Serializer | None = None,
        digests: Digests | None = None,
    ) -> Staged:
        """Write the payload of a result that follows `after`, the look-up that the work began with.

        After a `Found` it replaces that result (a refresh), after an expired or damaged one likewise. `attempt` is
        unique to this call: lower-case letters, digits, `-` and `_`, such as a uuid4's hex. `digest` may be a
        function, called once the value was written, for streams that are digested as they pass; of a value in parts
        `digests` make one, if all of its parts have one. `expires` and `started` are seconds since the epoch.

        Raises `SerializationError`, `CodecRefused` for a pickle where pickles are not read and results not signed,
        `StoreError`s, and what a stream's own code raises; nothing is published then.
        """
        self._write_format()
        chosen = serializer_for(value, serializer)
        if not chosen.safe and not self.trust.own_pickles:
            # Said now, and not by the next run, which would find a result that it may not read.
            raise CodecRefused(
                f"refused to store a result of {task} as {chosen.name!r}",
                where=self.store.url,
                because="reading it back would run code that whoever can write to this store has chosen",
                hint="return a table, an array or JSON; or sign results (docs/security.md); or add ?trusted=true to "
                "the address if all who can write there are trusted like your own code",
                codec=chosen.name,
            )
        generation, closes = place(after)
        inline = as_inline(value, chosen)
        if inline is not None:
            raw, about, payload = *inline, None
        else:
            raw = NOT_INLINE
            stored = write_payload(self.store, Place(task, key, generation, attempt), value, chosen, digests)
            payload, about, digest = stored.payload, stored.about, stored.digest or digest
        record = ResultRecord(
            v=RECORD_VERSION,
            key=key,
            task=task,
            generation=generation,
            attempt=attempt,
            codec=chosen.name,
            digest=digest if isinstance(digest, str) else digest(),
            payload=payload,
            inline=raw,
            about=about,
            session=session,
            fence=fence,
            key_parts=key_parts or {},
            producer=producer or this_process(),
            started=started,
            seconds=seconds,
            created=self.clock.now(),
            expires=expires,
            upstream_expires=upstream_expires,
        )
        return self.staged(record, closes, value, chosen)

    def commit(self, staged: Staged) -> Published | Restart:
        """Publish a staged result, or adopt the one that was first.

        Raises `StoreUnreachable` if the outcome stays unknown for `COMMIT_SECONDS` (it may have been published: a later
        look-up tells), and at once `StoreFull`, `StoreNotWritable`, `StoreVersionError`, and `SignatureRefused` if what
        was first may not be used.
        """
        failures, deadline = 0, self.clock.monotonic() + COMMIT_SECONDS
        while True:
            unclear: StoreUnreachable | None = None
            try:
                step = self._try_commit(staged)
            except StoreUnreachable as error:
                step, unclear = staged, error
            if not isinstance(step, Staged):
                return step
            # A taken name with nothing under it, too, is no answer.
            failures += unclear is not None or step is staged
            staged = step
            if failures >= COMMIT_TRIES or self.clock.monotonic() >= deadline:
                raise StoreUnreachable(
                    f"it is unknown whether a result of {staged.record.task} was published",
                    where=staged.record.slot_name,
                    because=(unclear.because or unclear.what) if unclear else "its slot kept changing",
                    hint="run it again: if the result was published it is found",
                ) from unclear
            if failures:
                delay = _FIRST_DELAY * 2.0**failures * random.uniform(0.5, 1.0)
                self.clock.wait(threading.Event(), delay)

    def _try_commit(self, staged: Staged) -> Published | Restart | Staged:
        """One try; what is to be committed instead if the generation is gone. Raises `StoreUnreachable` if unclear."""
        record = staged.record
        if staged.closes is not None:
            generation, reason = staged.closes
            redirect_seen(self.store, key_folder(record.task, record.key), generation, reason, clock=self.clock)
            staged = replace(staged, closes=None)
        try:
            if self.store.put_if_absent(record.slot_name, staged.data):
                return Published(record, won=True)
        except StoreUnreachable:
            # It may have landed all the same. If the slot is still empty the error stands.
            step = self._settle(staged)
            if step is staged:
                raise
            return step
        return self._settle(staged)

    def _settle(self, staged: Staged) -> Published | Restart | Staged:
        """Read the slot to learn what a write came to (R4)."""
        mine = staged.record
        try:
            slot = read_slot(self.store, mine.slot_name)
        except DamagedResult:
            redirect_seen(self.store, key_folder(mine.task, mine.key), mine.generation, "damaged", clock=self.clock)
            return self._stage_again(staged, mine.generation + 1, "damaged")
        if slot is None:
            return staged
        if isinstance(slot, RedirectRecord):
            # Collecting garbage and replacing damaged bytes say nothing against the value; all else does.
            if slot.reason in ("gc", "damaged"):
                return self._stage_again(staged, slot.next, slot.reason)
            return Restart(slot.next, slot.reason)
        # Before anything else that it says: attempts can be read from a listing.
        if (refused := self.trust.refusal(slot)) is not None:
            raise refused
        if slot.attempt == mine.attempt:
            return Published(slot, won=True)
        if mine.in_parts:
            remove_files(self.store, mine.files)
        elif mine.payload_name is not None:
            # The garbage collector would do it too.
            with contextlib.suppress(StoreError):
                self.store.delete(mine.payload_name)
        return Published(slot, won=False)

    def _stage_again(self, staged: Staged, generation: int, reason: Reason) -> Staged | Restart:
        """The same value in a later generation."""
        record = staged.record
        if record.payload is None:
            again = msgspec.structs.replace(record, generation=generation)
        elif isinstance(staged.value, Iterator) or record.in_parts:
            return Restart(generation, reason)  # a stream has gone by, and what is lazy is computed by running it again
        else:
            place = Place(record.task, record.key, generation, record.attempt)
            stored = write_payload(self.store, place, staged.value, staged.serializer)
            again = msgspec.structs.replace(record, generation=generation, payload=stored.payload, about=stored.about)
        return self.staged(again, None, staged.value, staged.serializer, sign=staged.sign)

    def staged(
        self,
        record: ResultRecord,
        closes: tuple[int, Reason] | None,
        value: Any,
        serializer: Serializer,
        *,
        sign: bool = True,
    ) -> Staged:
        """As `stage`, of a result whose payload is durable already."""
        record, data = self.trust.sealed(record, sign=sign)
        self.counters.add(bytes_written=len(data) + (record.size if record.payload else 0))
        return Staged(record=record, data=data, closes=closes, value=value, serializer=serializer, sign=sign)

    # -- closing

    def invalidate(self, task: str, key: str, reason: Reason = "invalidated") -> bool:
        """Close the current result of a key; False if there is none. No look-up that begins later yields it.

        Work that began before it may not publish into the closed generation any more (`Restart`).
        """
        found = self.look_up(task, key)
        if isinstance(found, Absent) and found.reason in ("never", "redirected"):
            return False
        self.close(task, key, found.generation, reason)
        return True

    def close(self, task: str, key: str, generation: int, reason: Reason) -> None:
        """Close one generation, whether something is published in it or not."""
        self._write_format()
        folder = key_folder(task, key)
        if not close_absent(self.store, folder, generation, reason, clock=self.clock):
            with contextlib.suppress(DamagedResult):
                if isinstance(read_slot(self.store, slot_in(folder, generation)), RedirectRecord):
                    return
            redirect_seen(self.store, folder, generation, reason, clock=self.clock)

    # -- recipes

    def get_recipes(self, recipes: Sequence[str]) -> list[RecipeEntry | None]:
        """The entry of each recipe key, None where there is none or it is damaged, in one round trip.

        None, too, where records that are signed so would be refused: without it a result is found by its cache key.
        Raises `StoreUnreachable`: whether there is an entry is unknown then.
        """
        self._check_format()
        self.counters.add(round_trips=1)
        return [
            None if data is None else self._recipe(data, recipe)
            for recipe, data in zip(recipes, self.store.get_many([recipe_name(r) for r in recipes]), strict=True)
        ]

    def _recipe(self, data: bytes, recipe: str) -> RecipeEntry | None:
        try:
            entry = decode_recipe(data, recipe=recipe)
        except (DamagedResult, StoreVersionError):
            return None  # an index entry that we cannot use is as good as none
        return entry if self.trust.believes(entry) else None

    def put_recipe(self, entry: RecipeEntry, *, sign: bool = True) -> None:
        """Write or replace an entry. A power cut may take it: it is an index and comes back with the next run."""
        self._write_format()
        name, data = recipe_name(entry.recipe), self.trust.sealed_entry(entry, sign=sign)
        if self._remembered is not None:
            if self.store.put_if_absent(name, data) or self.store.get(name) == data:
                return
            self._remembered.note_closing(name)
        self.store.put(name, data, durable=False)

    # -- the format of the store

    def _check_format(self) -> None:
        if not self._format_read:
            data = self.store.get(FORMAT_NAME)
            if data is not None:
                try:
                    check_format(data)
                except DamagedResult as error:
                    raise StoreError(
                        "the store's own description is damaged",
                        where=f"{self.store.url} {FORMAT_NAME}",
                        because=error.because,
                        hint="delete this one file; it is written again",
                    ) from error
            self._format_read = True

    def _write_format(self) -> None:
        self._check_format()
        if not self._format_written:
            self.store.put_if_absent(FORMAT_NAME, encode(StoreFormat(FORMAT_VERSION)))
            self._format_written = True

    def __repr__(self) -> str:
        return f"ResultStore({self.store!r})"


def place(after: Found | Absent) -> tuple[int, tuple[int, Reason] | None]:
    """The generation of a result that follows `after`, and what it closes."""
    if isinstance(after, Found):
        return after.generation + 1, (after.generation, "refreshed")
    if after.reason == "expired" or after.reason == "damaged":
        return after.generation + 1, (after.generation, after.reason)
    return after.generation, None


def this_process(*, run_id: str = "", flow: str = "") -> Producer:
    """Who we are, for records."""
    return Producer(
        host=socket.gethostname(),
        pid=os.getpid(),
        run_id=run_id,
        flow=flow,
        python=platform.python_version(),
        penstock=_version(),
    )


@cache
def _version() -> str:
    from importlib import metadata  # takes longer to import than a look-up, and is asked once

    try:
        return metadata.version("penstock")
    except metadata.PackageNotFoundError:
        return "not installed"
