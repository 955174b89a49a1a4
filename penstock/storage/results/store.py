"""`ResultStore`: looks up, publishes, reads and closes the results in a store.

The module `commits` contains the rules by which a single result of a generation becomes visible.
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
from penstock.storage.records.encoding import decode_recipe
from penstock.storage.records.names import key_folder, recipe_name, slot_in
from penstock.storage.records.records import (
    NOT_INLINE,
    RECORD_VERSION,
    IntentRecord,
    Producer,
    Reason,
    RecipeEntry,
    RedirectRecord,
    ResultRecord,
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
    Undecided,
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
from penstock.storage.results.layout import Layout
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
    "Undecided",
    "Unknown",
    "place",
]


_log = logging.getLogger("penstock.results")


class ResultStore:
    """The results in a store, by task and key (arbitrary strings).

    Guarantees at most one visible result per key and generation, with the bytes that were written, which every caller
    receives, whatever crashes. Which of several attempts that is, is not defined. Safe for use by several threads. Can
    be pickled if its store can.

    Args:
        store: Where the results are.
        clock: The time source for expiry.
        allow_pickle: None accepts signed pickles, and all pickles in a trusted store; False accepts none.
        signatures: Signs everything that is written, and decides what is read (docs/security.md).
        max_bytes: The most memory for reading one value. Defaults to this machine's memory, or half of it for results
            that are not trusted.
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
        """Tasks whose pickles were already reported."""
        self._layout = Layout(store, store.url)
        self._remembered = store if isinstance(store, RememberedStore) else None

    # -- looking up

    def look_up(self, task: str, key: str, *, inside: str = "") -> Found | Absent:
        """Look up one result. Raises `StoreError` where `look_up_many` returns `Unknown`."""
        (found,) = self.look_up_many([(task, key)], inside=inside)
        if isinstance(found, Unknown):
            raise found.error
        return found

    def look_up_many(self, pairs: Sequence[tuple[str, str]], *, inside: str = "") -> list[Found | Absent | Unknown]:
        """Look up results without reading their values, in one round trip, or two if some were refreshed.

        Args:
            pairs: Tasks and keys.
            inside: The path of the reader's own transaction, whose results it sees before they are committed.

        Returns:
            An answer for each pair, in order. Errors of the store are `Unknown` for all pairs concerned. A result
            with a missing or invalid signature is `Found` and `refused`.

        Raises:
            StoreVersionError: A newer version of Penstock created the store.
            StoreRefused: The store denies access.
        """
        try:
            self._layout.check()
        except (StoreRefused, StoreVersionError):
            raise
        except StoreError as error:
            return [Unknown(error)] * len(pairs)
        refusal = None if self.trust.signatures is None else self.trust.refusal
        found, trips = find(
            self.store,
            pairs,
            now=self.clock.now(),
            refusal=refusal,
            decisions=self.commits.decisions,
            inside=inside,
        )
        self.counters.add(lookups=len(pairs), round_trips=trips)
        return found

    def load(self, record: ResultRecord) -> Any:
        """Read and verify the value of a record. Every call returns a new object, equal to the published value.

        Raises:
            DamagedResult: The bytes are missing or changed; publish after `Found.damaged()`. If its data contain
                `closed=True`, the generation was closed since the lookup; look up again.
            CodecRefused: The codec is not accepted. This and `SignatureRefused` are raised before any byte is read.
            SerializationError: The code or a package to read the value is missing, or it needs too much memory.
            StoreUnreachable: The store did not answer.
        """
        allow_pickle = self.trust.allows_pickle(record)
        believed = self.trust.believes_code(record)
        limit = self._max_bytes or memory_bytes() // (1 if record.payload is not None and believed() else 2)
        from penstock.storage.results.payloads import read_value  # formats are loaded with the first value

        try:
            value = read_value(self.store, record, allow_pickle=allow_pickle, limit=limit, believed=believed)
        except DamagedResult as damage:
            raise self._looked_at_twice(record, damage) from damage.__cause__
        # Only the manifest of a lazy value was read.
        self.counters.add(bytes_read=record.payload.size if record.lazy and record.payload else record.size)
        return value

    def whole(self, record: ResultRecord) -> ResultRecord:
        """Return the complete record of one that may be `light`, or itself if it was closed meanwhile."""
        slot = read_slot(self.store, record.slot_name)
        whole = slot.result if isinstance(slot, IntentRecord) else slot
        return whole if isinstance(whole, ResultRecord) and whole.attempt == record.attempt else record

    def scan(self, record: ResultRecord) -> Any:
        """Return the table of a record as a lazy `pyarrow.dataset.Dataset`; see `StoredResult.scan`.

        Raises `SerializationError` if the value is not a table, `SignatureRefused` also if signatures are required,
        which do not cover partial reads, and the errors of `load`.
        """
        from penstock.storage.formats.parts.scanning import scan  # imports pyarrow's datasets

        self.trust.allow_scan(record)
        try:
            return scan(self.store, record)
        except DamagedResult as damage:
            raise self._looked_at_twice(record, damage) from damage.__cause__

    def _looked_at_twice(self, record: ResultRecord, damage: DamagedResult) -> DamagedResult:
        """Note whether the payload may have been deleted because the generation was closed."""
        with contextlib.suppress(DamagedResult):
            slot = read_slot(self.store, record.slot_name)
            damage.data["closed"] = isinstance(slot, RedirectRecord)
        return damage

    # -- publishing

    def publish(
        self, task: str, key: str, value: Any, *, check: Callable[[], None] | None = None, **staging: Any
    ) -> Published | Restart | Undecided:
        """Stage a result, `check` it and commit it, and repeat this if the staged payload was collected in between."""
        while True:
            staged = self.stage(task, key, value, **staging)
            if check is not None:
                check()  # when all of a stream has been read; what it raises prevents the commit
            outcome = self.commit(staged)
            if not isinstance(outcome, Restart) or not outcome.value_stands:
                return outcome
            if isinstance(value, Iterator) or staged.record.lazy:
                return outcome  # a stream is consumed, and a lazy value must be recomputed
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
        transaction: str = "",
    ) -> Staged:
        """Write the payload of a result, without publishing it.

        Args:
            task: The task's identity.
            key: The cache key.
            value: The value.
            after: The lookup from which the work started. The result replaces one that was found, expired or damaged.
            attempt: An id unique to this call of lower-case letters, digits, `-` and `_`, such as the hex of a uuid4.
            digest: The digest of the value, or a function that returns it after the value was written, for streams.
            session: The lock session of the writer.
            fence: The fencing token of its lock.
            key_parts: The components of the key.
            expires: When the result expires, in seconds since the epoch; None for never.
            upstream_expires: The earliest expiry of everything it was computed from.
            producer: The process that computed it. Defaults to this one.
            started: When the computation started, in seconds since the epoch; it took `seconds`.
            serializer: The serializer or its name. By default the value's type decides.
            digests: How to digest a value in parts.
            transaction: The path of the transaction that the result belongs to.

        Raises:
            SerializationError: The value cannot be stored.
            CodecRefused: It needs pickle, but pickles are not accepted here and results are not signed.
            StoreError: The store failed.
            Exception: Whatever a stream's own code raises.
        """
        self._layout.write()
        from penstock.storage.formats.registry import serializer_for  # formats are loaded with the first value
        from penstock.storage.results.payloads import Place, as_inline, write_payload

        chosen = serializer_for(value, serializer)
        pickled = "" if chosen.safe else self._pickled(task, chosen.name, value)
        generation, closes = place(after)
        inline = as_inline(value, chosen)
        if inline is not None:
            raw, about, payload = *inline, None
        else:
            raw = NOT_INLINE
            stored = write_payload(self.store, Place(task, key, generation, attempt), value, chosen, digests)
            payload, about, digest = stored.payload, stored.about, stored.digest or digest
        if pickled and task not in self._told:
            self._told.add(task)
            _log.info("results of %s are stored as pickles: %s", task, pickled)
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
            transaction=transaction,
        )
        return self.commits.staged(record, closes)

    def _pickled(self, task: str, codec: str, value: Any) -> str:
        """Return which parts of a value are pickles. Raises `CodecRefused` if the next run could not read them."""
        from penstock.storage.formats.pickled import pickled_parts

        parts = "result" if task in self._told else pickled_parts(value)
        self.trust.refuse_pickle(task, codec, parts)
        return parts

    def commit(self, staged: Staged) -> Published | Restart | Undecided:
        """Publish a staged result, or adopt the result of another attempt that was first.

        One that belongs to a transaction counts for others when the transaction has been decided (`decisions`).

        Raises:
            StoreUnreachable: Whether it was published stayed unknown for `COMMIT_SECONDS`. A later lookup shows it.
            SignatureRefused: The result that was first must not be used.
            StoreError: The store is full, not writable, or of a newer version. Raised at once.
        """
        return self.commits.commit(staged)

    # -- closing

    def invalidate(self, task: str, key: str, reason: Reason = "invalidated") -> bool:
        """Close the current result of a key, so that no later lookup finds it. Return False if there is none.

        Work that started earlier can no longer publish into the closed generation (`Restart`).
        """
        found = self.look_up(task, key)
        if isinstance(found, Absent) and found.reason in ("never", "redirected"):
            return False
        self.close(task, key, found.generation, reason)
        return True

    def close(self, task: str, key: str, generation: int, reason: Reason) -> None:
        """Close a generation, whether it has a result or not."""
        self._layout.write()
        folder = key_folder(task, key)
        if not close_absent(self.store, folder, generation, reason, clock=self.clock):
            with contextlib.suppress(DamagedResult):
                if isinstance(read_slot(self.store, slot_in(folder, generation)), RedirectRecord):
                    return
            redirect_seen(self.store, folder, generation, reason, clock=self.clock)

    # -- recipes

    def get_recipes(self, recipes: Sequence[str]) -> list[RecipeEntry | None]:
        """Return the entry of each recipe key in one round trip.

        Missing, damaged and insufficiently signed entries are None: results without one are found by their cache key.
        Raises `StoreUnreachable`.
        """
        self._layout.check()
        self.counters.add(round_trips=1)
        believed = self.trust.believing()
        return [
            None if data is None else _recipe(data, recipe, believed)
            for recipe, data in zip(recipes, self.store.get_many([recipe_name(r) for r in recipes]), strict=True)
        ]

    def put_recipe(self, entry: RecipeEntry, *, sign: bool = True) -> None:
        """Write or replace an entry, not durably, since the next run would write it again."""
        self._layout.write()
        name, data = recipe_name(entry.recipe), self.trust.sealed_entry(entry, sign=sign)
        if self._remembered is not None:
            if self.store.put_if_absent(name, data) or self.store.get(name) == data:
                return
            self._remembered.note_closing(name)
        self.store.put(name, data, durable=False)

    def __repr__(self) -> str:
        return f"ResultStore({self.store!r})"


def _recipe(data: bytes, recipe: str, believed: Callable[[RecipeEntry], bool]) -> RecipeEntry | None:
    try:
        entry = decode_recipe(data, recipe=recipe)
    except (DamagedResult, StoreVersionError):
        return None  # an unusable index entry is treated as missing
    return entry if believed(entry) else None
