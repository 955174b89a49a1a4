"""Results over a store: looked up in batches, published once per generation, read back verified, closed.

`commits` has the rules by which one result of a generation becomes visible.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.errors import (
    DamagedResult,
    StoreError,
    StoreRefused,
    StoreVersionError,
)
from penstock.storage.formats.base import Serializer
from penstock.storage.records.encoding import check_format, decode_recipe, encode
from penstock.storage.records.names import key_folder, recipe_name, slot_in
from penstock.storage.records.records import (
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
)
from penstock.storage.records.signing import Signatures
from penstock.storage.results.commits import (
    COMMIT_SECONDS,
    COMMIT_TRIES,
    Commits,
    Counters,
    Published,
    Restart,
    Staged,
    place,
)
from penstock.storage.results.generations import (
    Absent,
    Found,
    Unknown,
    close_absent,
    find,
    read_slot,
    redirect_seen,
)
from penstock.storage.results.producers import memory_bytes, this_process
from penstock.storage.results.trust import Trust
from penstock.storage.stores.base import RememberedStore, Store

if TYPE_CHECKING:
    from penstock.storage.formats.parts.manifests import Digests

__all__ = [
    "COMMIT_SECONDS",
    "COMMIT_TRIES",
    "Absent",
    "Found",
    "Published",
    "Restart",
    "ResultStore",
    "Staged",
    "Unknown",
    "place",
]


_log = logging.getLogger("penstock.results")


class ResultStore:
    """The results in a store, by task and key (any strings). Safe for threads; may be pickled if its store may be.

    Promised: at most one visible result per key and generation, and every caller gets that one, whoever crashes when,
    with the bytes that were written. Not promised: which of several attempts that is.

    `allow_pickle` None accepts pickles where the store is trusted, and signed ones; False accepts none. With
    `signatures` everything that is written is signed; they also say what is read (docs/security.md). `max_bytes`
    bounds what one value may need to be read, by default this machine's memory, or half of it for what anyone may have
    written.
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
        self._max_bytes = max_bytes
        self.commits = Commits(store, self.trust, self.counters, clock)
        self._told: set[str] = set()
        """Tasks of whose pickles was said already."""
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
            believed = self.trust.believes_code(record)
            limit = self._max_bytes or memory_bytes() // (1 if record.payload is not None and believed() else 2)
            from penstock.storage.results.payloads import read_value  # formats are loaded with the first value

            value = read_value(self.store, record, allow_pickle=allow_pickle, limit=limit, believed=believed)
        # Of a lazy value only the list of its parts was read.
        self.counters.add(bytes_read=record.payload.size if record.lazy and record.payload else record.size)
        return value

    def whole(self, record: ResultRecord) -> ResultRecord:
        """The record with all that was written in it, of one that may be `light`; itself if it is closed meanwhile."""
        slot = read_slot(self.store, record.slot_name)
        return slot if isinstance(slot, ResultRecord) and slot.attempt == record.attempt else record

    def scan(self, record: ResultRecord) -> Any:
        """The table of a record as a `pyarrow.dataset.Dataset`, of which only what is asked for is read.

        See `StoredResult.scan` for what is verified. Raises `SerializationError` for what is no table,
        `SignatureRefused` also where that is not enough, and else as `load`.
        """
        from penstock.storage.formats.parts.scanning import scan  # with pyarrow's datasets, for those who scan

        self.trust.allow_scan(record)
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
        """`stage` and `commit` in one, and again if what was staged is collected in between."""
        while True:
            staged = self.stage(task, key, value, **staging)
            outcome = self.commit(staged)
            if isinstance(outcome, Published) or not outcome.value_stands:
                return outcome
            if isinstance(value, Iterator) or staged.record.lazy:
                return outcome  # a stream has gone by, and what is lazy is computed by running it again
            staging["after"] = Absent(outcome.generation, "redirected")

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
        from penstock.storage.formats.registry import serializer_for  # formats are loaded with the first value
        from penstock.storage.results.payloads import Place, as_inline, write_payload

        chosen = serializer_for(value, serializer)
        if not chosen.safe:
            self._tell_of_pickle(task, chosen.name, value)
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
        return self.commits.staged(record, closes)

    def _tell_of_pickle(self, task: str, codec: str, value: Any) -> None:
        """Refuse one that the next run could not read; else say once of each task that its results are some."""
        if task in self._told:
            self.trust.refuse_pickle(task, codec, "result")
            return
        from penstock.storage.formats.pickled import pickled_parts

        parts = pickled_parts(value)
        self.trust.refuse_pickle(task, codec, parts)
        self._told.add(task)
        _log.info("results of %s are stored as pickles: %s", task, parts)

    def commit(self, staged: Staged) -> Published | Restart:
        """Publish a staged result, or adopt the one that was first.

        Raises `StoreUnreachable` if the outcome stays unknown for `COMMIT_SECONDS` (it may have been published: a later
        look-up tells), and at once `StoreFull`, `StoreNotWritable`, `StoreVersionError`, and `SignatureRefused` if what
        was first may not be used.
        """
        return self.commits.commit(staged)

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
        believed = self.trust.believing()
        return [
            None if data is None else _recipe(data, recipe, believed)
            for recipe, data in zip(recipes, self.store.get_many([recipe_name(r) for r in recipes]), strict=True)
        ]

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


def _recipe(data: bytes, recipe: str, believed: Callable[[RecipeEntry], bool]) -> RecipeEntry | None:
    try:
        entry = decode_recipe(data, recipe=recipe)
    except (DamagedResult, StoreVersionError):
        return None  # an index entry that we cannot use is as good as none
    return entry if believed(entry) else None
