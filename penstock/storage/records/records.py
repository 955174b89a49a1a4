"""The records of the store: what is written about a result, under which name, and how it is read back strictly.

A record is one JSON object of at most `MAX_RECORD_BYTES`, for people and programs to read. Its last field, `check`, is
a blake3 of everything before it, so that a record that lost or changed a byte is known for damaged before a field of
it is used.

    results/<task>/<key>/000000.record.json      the slot of generation 0: a ResultRecord or a RedirectRecord
    results/<task>/<key>/000000.<attempt>.<ext>  the payload of one attempt in that generation (parts: see manifests.py)
    recipes/<2 hex>/<recipe key>.json            a RecipeEntry
    code/<2 hex>/<digest>.json                   a note of what code a digest is of (code_notes.py)
    penstock.json                                the version of the layout

Tasks and keys are any strings; `segment` makes a path segment of each, a different one for different strings.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Literal

import msgspec

from penstock.storage.records.names import attempt_prefix, payload_name, slot_name

RECORD_VERSION = 1
"""The version of records this Penstock writes, and the newest one it reads."""
FORMAT_VERSION = 1
"""The version of the layout of a whole store."""
FORMAT_NAME = "penstock.json"
INLINE_BYTES = 8 * 1024
"""JSON values up to this size live inside their record."""

Reason = Literal["refreshed", "expired", "invalidated", "damaged", "gc", "rollback"]
"""Why a generation was closed."""


class PayloadFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """The file that holds a value. Its name is computed, never read from a record: a record must not lead elsewhere."""

    suffix: str
    """Of the file's name, with its dot."""
    size: int
    """Bytes."""
    checksum: str
    """blake3 of the bytes, hex."""
    parts: int | None = None
    """The value lies in so many files, and this one is the manifest that tells them; None: it is the value."""
    parts_bytes: int = 0
    """Of all parts together."""


class About(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a serializer wrote down beside the bytes, to make the same value of them again."""

    type: str = ""
    """Which of the types that share a codec: `Table`, `Series`, or a model's `module:qualname`."""
    rows: int | None = None
    columns: dict[str, str] = {}
    """Of tables: column to type, for people to read."""
    details: dict[str, str] = {}


class Producer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who computed a result, for people to read."""

    host: str = ""
    pid: int = 0
    run_id: str = ""
    flow: str = ""
    python: str = ""
    penstock: str = ""
    packages: dict[str, str] = {}
    """The versions of what values are made of, of those that were imported."""


class Signature(msgspec.Struct, frozen=True):
    """Who vouches for a record (penstock.storage.records.signing)."""

    key: str
    """Which key, by its id."""
    mac: str
    """HMAC-SHA256 of the record without its signature, hex."""


NOT_INLINE = msgspec.Raw(b"")
CONTAINER = "parts"
"""The codec of containers, each part of which has a codec of its own."""


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
    """Unique to one attempt to publish: says whose record this is when the answer to a write was lost."""
    codec: str
    digest: str
    """Of the value, as the caller computed it."""
    payload: PayloadFile | None = None
    inline: msgspec.Raw = NOT_INLINE
    """The value as JSON if it is small, else empty."""
    about: About = About()
    session: str = ""
    fence: int = 0
    key_parts: dict[str, Any] = {}
    producer: Producer = Producer()
    started: float = 0.0
    seconds: float = 0.0
    created: float = 0.0
    expires: float | None = None
    """None: never."""
    upstream_expires: float | None = None
    """The earliest expiry anywhere upstream."""
    signature: Signature | None = None
    """Over all that stands before it."""

    def light(self, key: str | None = None) -> ResultRecord:
        """The record without what only people read: who made it, when, and from what. A run holds one for each node.

        `key` is its key as the caller has it: one string less.

        One that is signed stays whole: the signature is over all of it.
        """
        if self.signature is not None:
            return self
        return msgspec.structs.replace(
            self,
            key=self.key if key is None else key,
            inline=self.inline.copy(),  # or it would keep all the bytes that it was read from
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
        """Bytes of the stored value."""
        return self.payload.size + self.payload.parts_bytes if self.payload else len(bytes(self.inline))

    @property
    def slot_name(self) -> str:
        """The name of this record in the store."""
        return slot_name(self.task, self.key, self.generation)

    @property
    def payload_name(self) -> str | None:
        """The name of the payload in the store, None for an inline value."""
        if self.payload is None:
            return None
        return payload_name(self.task, self.key, self.generation, self.attempt, self.payload.suffix)

    @property
    def in_parts(self) -> bool:
        """Whether the value lies in several files, with a manifest for its payload."""
        return self.payload is not None and self.payload.parts is not None

    @property
    def lazy(self) -> bool:
        """Whether its parts are read when somebody computes with it; those of a container are read at once."""
        return self.in_parts and self.codec.partition("/")[0] != CONTAINER

    @property
    def files(self) -> str:
        """How the names of all files of its value begin."""
        return attempt_prefix(self.task, self.key, self.generation, self.attempt)


_NO_ABOUT = About()
_NO_PARTS: dict[str, Any] = {}


@functools.lru_cache(maxsize=256)
def _made_by(run_id: str) -> Producer:
    """Which run made it, and no more: one object for all results of a run."""
    return Producer(run_id=run_id)


class RedirectRecord(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    tag_field="kind",
    tag="redirect",
    kw_only=True,
):
    """A closed generation: whoever wants the result looks in generation `next`."""

    v: int
    slot: str
    """Its own name. Not the task and key: the garbage collector closes what nobody published, where only names tell."""
    generation: int
    next: int
    reason: Reason
    created: float = 0.0


class RecipeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Where a recipe led: an index only, always checked against records and always allowed to be missing.

    It is signed nevertheless: a record that it leads to is of the right task, and only the entry says of which inputs.
    """

    v: int = RECORD_VERSION
    recipe: str
    """The recipe key, compared on read."""
    key: str
    """The cache key."""
    task: str
    digest: str
    """Of the value."""
    inputs: list[str] | None = None
    """The digests of other nodes' values this one was made from, in the order of its arguments; None: not stated."""
    expires: float | None = None
    """The earliest expiry of the result and of everything it was made from."""
    origin: str = ""
    """Which attempt of a run says so: what one says of several recipes belongs together."""
    signature: Signature | msgspec.UnsetType = msgspec.UNSET


class StoreFormat(msgspec.Struct, frozen=True):
    """The content of `penstock.json`."""

    format: int
    about: str = "a Penstock store; results/<task>/<key>/ holds values as ordinary files"


Slot = ResultRecord | RedirectRecord

# -- names


# -- bytes
