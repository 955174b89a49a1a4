"""The records of a store: the JSON objects that describe results.

A record is a JSON object of at most `MAX_RECORD_BYTES`, readable by people and programs. Its last field, `check`, is a
blake3 of everything before it, so that a damaged record is detected before any of its fields is used.

    results/<task>/<key>/000000.record.json      the slot of generation 0: what is published there
    results/<task>/<key>/000000.<attempt>.<ext>  the payload of one attempt in that generation (parts: see manifests.py)
    recipes/<2 hex>/<recipe key>.json            a RecipeEntry
    code/<2 hex>/<digest>.json                   a code note: the code behind a digest (code_notes.py)
    transactions/<id>/decision.json              what became of a transaction (transactions.py)
    penstock.json                                the version of the layout

Tasks and keys are arbitrary strings; `segment` converts each to a unique path segment.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Literal

import msgspec

from penstock.storage.records.names import attempt_prefix, payload_name, slot_name

RECORD_VERSION = 1
"""The version of records that this Penstock writes, and the newest one it reads."""
FORMAT_VERSION = 1
"""The version of the layout of a store."""
FORMAT_NAME = "penstock.json"
INLINE_BYTES = 8 * 1024
"""JSON values up to this size are stored inside their record."""

Reason = Literal["refreshed", "expired", "invalidated", "damaged", "gc", "rollback"]
"""Why a generation was closed."""


class PayloadFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """The file of a value. Its name is computed, so that a record cannot refer to other files."""

    suffix: str
    """The suffix of the file's name, including the dot."""
    size: int
    """Bytes."""
    checksum: str
    """blake3 of the bytes, hex."""
    parts: int | None = None
    """The number of parts if this file is a manifest; None if it is the value itself."""
    parts_bytes: int = 0
    """The total size of all parts."""


class About(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a serializer needs in addition to the bytes to read a value.

    `Serializer.write` returns it, and `Serializer.read` receives it.
    """

    type: str = ""
    """The type among those of the codec: `Table`, `Series`, or a model's `module:qualname`."""
    rows: int | None = None
    columns: dict[str, str] = {}
    """The columns of a table with their types, for people."""
    details: dict[str, str] = {}


class Producer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The process that computed a result, for people."""

    host: str = ""
    pid: int = 0
    run_id: str = ""
    flow: str = ""
    python: str = ""
    penstock: str = ""
    packages: dict[str, str] = {}
    """The versions of the imported data packages."""


class Signature(msgspec.Struct, frozen=True):
    """The signature of a record (penstock.storage.records.signing)."""

    key: str
    """The id of the signing key."""
    mac: str
    """HMAC-SHA256 of the record without its signature, hex."""


NOT_INLINE = msgspec.Raw(b"")
CONTAINER = "parts"
"""The codec of containers, whose parts have codecs of their own."""


class ResultRecord(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    tag_field="kind",
    tag="final",
    kw_only=True,
):
    """One published result. Times are seconds since the epoch, on the producer's clock."""

    v: int
    key: str
    task: str
    generation: int
    attempt: str
    """Unique to one attempt to publish. Identifies the writer of the record if the answer to a write was lost."""
    codec: str
    digest: str
    """The digest of the value, computed by the caller."""
    payload: PayloadFile | None = None
    inline: msgspec.Raw = NOT_INLINE
    """The value as JSON if it is small, else empty."""
    about: About = About()
    session: str = ""
    fence: int = 0
    key_parts: dict[str, Any] = {}
    """The components of the key."""
    producer: Producer = Producer()
    started: float = 0.0
    seconds: float = 0.0
    created: float = 0.0
    expires: float | None = None
    """None if it never expires."""
    upstream_expires: float | None = None
    """The earliest expiry anywhere upstream."""
    transaction: str = ""
    """The transaction in which it was published, if any (`IntentRecord`)."""
    signature: Signature | None = None
    """Covers all other fields."""

    def light(self, key: str | None = None) -> ResultRecord:
        """Return the record without information for people (producer, times, key parts), since runs keep one per node.

        `key` is an equal string to use as the key, which saves memory. A signed record is returned unchanged, because
        the signature covers all of it.
        """
        if self.signature is not None:
            return self
        return msgspec.structs.replace(
            self,
            key=self.key if key is None else key,
            inline=self.inline.copy(),  # otherwise it would keep all the bytes it was decoded from
            task=sys.intern(self.task),
            codec=sys.intern(self.codec),
            about=_NO_ABOUT if self.about == _NO_ABOUT else self.about,
            key_parts=_NO_PARTS,
            producer=_made_by(self.producer.run_id),
            session="",
            fence=0,
            started=0.0,
            created=0.0,
        )

    @property
    def size(self) -> int:
        """The size of the stored value in bytes."""
        return self.payload.size + self.payload.parts_bytes if self.payload else len(bytes(self.inline))

    @property
    def slot_name(self) -> str:
        """The name of this record in the store."""
        return slot_name(self.task, self.key, self.generation)

    @property
    def payload_name(self) -> str | None:
        """The name of the payload in the store; None for an inline value."""
        if self.payload is None:
            return None
        return payload_name(self.task, self.key, self.generation, self.attempt, self.payload.suffix)

    @property
    def in_parts(self) -> bool:
        """Whether the value is stored in several files, with a manifest as its payload."""
        return self.payload is not None and self.payload.parts is not None

    @property
    def lazy(self) -> bool:
        """Whether its parts are read only when they are used. Parts of containers are read at once."""
        return self.in_parts and self.codec.partition("/")[0] != CONTAINER

    @property
    def files(self) -> str:
        """The prefix of the names of all files of its value."""
        return attempt_prefix(self.task, self.key, self.generation, self.attempt)


_NO_ABOUT = About()
_NO_PARTS: dict[str, Any] = {}


@functools.lru_cache(maxsize=256)
def _made_by(run_id: str) -> Producer:
    """Return a producer with the run id only, shared by all results of a run."""
    return Producer(run_id=run_id)


class RedirectRecord(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    tag_field="kind",
    tag="redirect",
    kw_only=True,
):
    """A closed generation. The result is looked up in generation `next` instead."""

    v: int
    slot: str
    """Its own name, instead of task and key, which the garbage collector does not know for unpublished results."""
    generation: int
    next: int
    reason: Reason
    created: float = 0.0


class IntentRecord(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    tag_field="kind",
    tag="intent",
    kw_only=True,
):
    """A result of a transaction. It counts if, and only if, the transaction was committed (penstock/transactions).

    It stays as it is after the decision, since rewriting it could restore a result that was invalidated meanwhile.
    """

    v: int
    result: ResultRecord
    """The result. Its signature covers its `transaction`, so that it cannot be published without the others."""

    @property
    def transaction(self) -> str:
        return self.result.transaction

    @property
    def slot_name(self) -> str:
        return self.result.slot_name


class RecipeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The cache key of a recipe. Only an index: always checked against records, and allowed to be missing.

    It is signed nevertheless: the record proves the task, but only the entry states the inputs.
    """

    v: int = RECORD_VERSION
    recipe: str
    """The recipe key, which is compared when the entry is read."""
    key: str
    """The cache key."""
    task: str
    digest: str
    """The digest of the value."""
    inputs: list[str] | None = None
    """The digests of the values of other nodes it was computed from, in the order of its arguments; None if unknown."""
    expires: float | None = None
    """The earliest expiry of the result and everything it was computed from."""
    origin: str = ""
    """The cohort of the run that wrote it. Entries of one cohort belong together."""
    signature: Signature | msgspec.UnsetType = msgspec.UNSET


class StoreFormat(msgspec.Struct, frozen=True):
    """The content of `penstock.json`."""

    format: int
    about: str = "a Penstock store; results/<task>/<key>/ holds values as ordinary files"


Settled = ResultRecord | RedirectRecord
"""What a slot means once it is known what became of its transaction."""
Slot = Settled | IntentRecord
