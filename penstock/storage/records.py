"""The records of the store: what is written about a result, under which name, and how it is read back strictly.

A record is one JSON object of at most `MAX_RECORD_BYTES`, for people and programs to read. Its last field, `check`, is
a blake3 of everything before it, so that a record that lost or changed a byte is known for damaged before a field of
it is used.

    results/<task>/<key>/000000.record.json      the slot of generation 0: a ResultRecord or a RedirectRecord
    results/<task>/<key>/000000.<attempt>.<ext>  the payload of one attempt in that generation (parts: see parts.py)
    recipes/<2 hex>/<recipe key>.json            a RecipeEntry
    code/<2 hex>/<digest>.json                   a note of what code a digest is of (code_notes.py)
    penstock.json                                the version of the layout

Tasks and keys are any strings; `segment` makes a path segment of each, a different one for different strings.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

import msgspec
from blake3 import blake3

from penstock.errors import DamagedResult, StoreError, StoreVersionError
from penstock.storage.stores.base import MAX_RECORD_BYTES

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
    """Who vouches for a record (penstock.storage.signing)."""

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

_PLAIN = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,98}[a-z0-9_-])?")
_ATTEMPT = re.compile(r"(?!record\Z)[a-z0-9_-]{1,64}")
_SUFFIX = re.compile(r"(?:\.[a-z0-9]{1,16}){1,2}")
_PART_SUFFIX = re.compile(r"\.[a-z0-9]{1,16}(\.gz)?")
_MARK = re.compile(r"[0-9a-f]{8}")


def segment(text: str) -> str:
    """A path segment for any string: different segments for different strings, also where case does not count.

    Plain lower-case text (dots, dashes and underscores inside) and hex keys stand for themselves. Anything else is a
    readable beginning, `~`, and 128 bits of its hash; a plain one never has a `~`.
    """
    if _PLAIN.fullmatch(text):
        return text
    readable = re.sub(r"[^a-z0-9_-]", "_", text[:40].lower())
    return f"{readable}~{blake3(text.encode('utf-8', 'surrogatepass')).hexdigest(16)}"


_task_segment = functools.lru_cache(maxsize=1024)(segment)
"""Thousands of keys are of one task."""


def key_folder(task: str, key: str) -> str:
    return f"results/{_task_segment(task)}/{segment(key)}/"


def slot_name(task: str, key: str, generation: int) -> str:
    return f"results/{_task_segment(task)}/{segment(key)}/{generation:06d}.record.json"


def slot_in(folder: str, generation: int) -> str:
    """As `slot_name`, for the folder that `key_folder` named."""
    return f"{folder}{generation:06d}.record.json"


def payload_name(task: str, key: str, generation: int, attempt: str, suffix: str) -> str:
    """Raises `StoreError` for an attempt or suffix that cannot be part of a file name."""
    if not _ATTEMPT.fullmatch(attempt) or not _SUFFIX.fullmatch(suffix):
        raise _refused(attempt, suffix)
    return f"results/{segment(task)}/{segment(key)}/{generation:06d}.{attempt}{suffix}"


def attempt_prefix(task: str, key: str, generation: int, attempt: str) -> str:
    """How the names of all files of one attempt begin. Raises as `payload_name`."""
    if not _ATTEMPT.fullmatch(attempt):
        raise _refused(attempt, "")
    return f"results/{segment(task)}/{segment(key)}/{generation:06d}.{attempt}."


def part_name(prefix: str, number: int, mark: str, suffix: str = ".parquet") -> str:
    """The name of a part among the files of the attempt that `attempt_prefix` named. Raises as `payload_name`."""
    if not _MARK.fullmatch(mark) or number < 0 or not _PART_SUFFIX.fullmatch(suffix):
        raise _refused(mark, f"{number}{suffix}")
    return f"{prefix}{number:06d}-{mark}{suffix}"


def _refused(attempt: str, suffix: str) -> StoreError:
    return StoreError(f"refused the payload name {attempt!r} + {suffix!r}", because="it could be another file's")


def recipe_name(recipe: str) -> str:
    return f"recipes/{blake3(recipe.encode('utf-8', 'surrogatepass')).hexdigest(1)}/{segment(recipe)}.json"


# -- bytes

_CHECK_HEX = 32
_CHECK_AT = -(_CHECK_HEX + len(b',"check":"') + len(b'"}'))
_encoder = msgspec.json.Encoder(order="deterministic")
_slot_decoder: msgspec.json.Decoder[Slot] = msgspec.json.Decoder(Slot)
_recipe_decoder = msgspec.json.Decoder(RecipeEntry)
_format_decoder = msgspec.json.Decoder(StoreFormat)
_Decoded = TypeVar("_Decoded", ResultRecord | RedirectRecord, RecipeEntry, StoreFormat)
_Written = TypeVar("_Written", bound=ResultRecord | RedirectRecord | RecipeEntry | StoreFormat)
_Signed = TypeVar("_Signed", ResultRecord, RecipeEntry)


class _Header(msgspec.Struct):
    v: int = 0
    format: int = 0
    kind: str = ""


_header_decoder = msgspec.json.Decoder(_Header)


def encode(record: Slot | RecipeEntry | StoreFormat) -> bytes:
    """The bytes of a record. What is only for people to read is left out where it cannot be written or does not fit.

    Raises `StoreError` if the rest does not either.
    """
    return _fitting(record, lambda form: form)[1]


def encode_signed(record: _Signed, sign: Callable[[_Signed], _Signed]) -> tuple[_Signed, bytes]:
    """As `encode`: the record as it was signed, and its bytes. Signed is what a reader will see."""

    def signed(form: _Signed) -> _Signed:
        return sign(msgspec.json.decode(_encoder.encode(form), type=type(form)))

    return _fitting(record, signed)


def canonical(record: ResultRecord | RecipeEntry) -> bytes:
    """What a signature is over: every field of a record but the signature, in order, and of which kind it is.

    The same for equal records, whether they were read or unpickled. A field that is added later may only join where it
    says something, or older signatures would be void.
    """
    said = list(msgspec.structs.astuple(record)[:-1])
    if isinstance(record, ResultRecord):
        said[_INLINE] = record.inline if bytes(record.inline) else None  # nothing, which is no JSON
        return b"penstock result 1\n" + _encoder.encode(said)
    return b"penstock recipe 1\n" + _encoder.encode(said)


_INLINE = ResultRecord.__struct_fields__.index("inline")


def _fitting(record: _Written, finished: Callable[[_Written], _Written]) -> tuple[_Written, bytes]:
    problem = ""
    for form in _forms(record):
        try:
            whole = finished(form)
            data = _with_check(whole)
        except UnicodeEncodeError as error:
            problem = str(error)
            continue
        if len(data) <= MAX_RECORD_BYTES:
            return whole, data
        problem = f"it is too large: {len(data)} bytes, and {MAX_RECORD_BYTES} is the limit"
    raise StoreError("a record cannot be written", because=problem)


def _forms(record: _Written) -> Iterator[_Written]:
    yield record
    if isinstance(record, ResultRecord):
        narrow: _Written = msgspec.structs.replace(record, about=msgspec.structs.replace(record.about, columns={}))
        yield narrow
        yield msgspec.structs.replace(narrow, key_parts={"left out": "more than fits into a record"})


def _with_check(record: msgspec.Struct) -> bytes:
    body = _encoder.encode(record)[:-1]
    return body + b',"check":"' + blake3(body).hexdigest(_CHECK_HEX // 2).encode() + b'"}'


def decode_slot(data: bytes, *, task: str, key: str, generation: int) -> Slot:
    """The record in a slot, if it is whole and belongs there.

    Raises `DamagedResult` if not, and `StoreVersionError` if a newer Penstock wrote it.
    """
    record = _decode(data, _slot_decoder)
    if isinstance(record, RedirectRecord):
        at_home = record.slot == slot_name(task, key, generation)
    else:
        at_home = record.key == key and record.task == task and record.generation == generation
    if not at_home:
        raise _misplaced(record, slot_name(task, key, generation))
    return record


def decode_slot_at(data: bytes, name: str) -> Slot:
    """As `decode_slot` where only the file's name is known."""
    record = _decode(data, _slot_decoder)
    if (record.slot if isinstance(record, RedirectRecord) else record.slot_name) != name:
        raise _misplaced(record, name)
    return record


def _misplaced(record: Slot, name: str) -> DamagedResult:
    home = record.slot if isinstance(record, RedirectRecord) else record.slot_name
    return DamagedResult("a record lies under another's name", where=name, because=f"it belongs at {home}")


def decode_recipe(data: bytes, *, recipe: str) -> RecipeEntry:
    """Raises `DamagedResult` and `StoreVersionError` as `decode_slot`."""
    entry = _decode(data, _recipe_decoder)
    if entry.recipe != recipe:
        raise DamagedResult("a recipe entry lies under another recipe's name", where=recipe_name(recipe))
    return entry


def decode_recipe_at(data: bytes, name: str) -> RecipeEntry:
    """As `decode_recipe` where only the file's name is known."""
    entry = _decode(data, _recipe_decoder)
    if recipe_name(entry.recipe) != name:
        raise DamagedResult("a recipe entry lies under another recipe's name", where=name)
    return entry


def check_format(data: bytes) -> None:
    """Raises `StoreVersionError` for a store that a newer Penstock laid out, `DamagedResult` for no such file."""
    _decode(data, _format_decoder)


def _decode(data: bytes, decoder: msgspec.json.Decoder[_Decoded]) -> _Decoded:
    body = data[:_CHECK_AT]
    if data[_CHECK_AT:] != b',"check":"' + blake3(body).hexdigest(_CHECK_HEX // 2).encode() + b'"}':
        _refuse_newer(data)
        raise DamagedResult(
            "a record is damaged",
            because="its bytes are not the ones that were written",
        )
    try:
        record = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse_newer(data)
        # Whole and yet not understood: another version's, and not ours to call damaged and replace.
        raise StoreVersionError(
            "a record is of a kind that this Penstock does not know",
            because=str(error),
            hint="upgrade Penstock here",
        ) from error
    if isinstance(record, StoreFormat):
        if record.format > FORMAT_VERSION:
            _refuse_newer(data)
    elif record.v > RECORD_VERSION:
        _refuse_newer(data)
    return record


def _refuse_newer(data: bytes) -> None:
    """Raise `StoreVersionError` if what can be read of these bytes says that a newer Penstock wrote them."""
    try:
        header = _header_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    for found, known, what in (
        (header.v, RECORD_VERSION, "record"),
        (header.format, FORMAT_VERSION, "store"),
    ):
        if found > known:
            raise StoreVersionError(
                f"the {what} has version {found}",
                because=f"this Penstock reads versions up to {known}",
                hint="upgrade Penstock here, or point PENSTOCK_STORE at another store",
                found=found,
                known=known,
            )
