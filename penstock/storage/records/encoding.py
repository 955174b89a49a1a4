"""Records as bytes: encoding them within the size limit, and decoding them strictly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec
from blake3 import blake3

from penstock.errors import DamagedResult, StoreError, StoreVersionError
from penstock.storage.records.names import decision_name, recipe_name, slot_name
from penstock.storage.records.records import (
    FORMAT_VERSION,
    RECORD_VERSION,
    IntentRecord,
    RecipeEntry,
    RedirectRecord,
    ResultRecord,
    Settled,
    Slot,
    StoreFormat,
)
from penstock.storage.records.transactions import Decision
from penstock.storage.stores.base import MAX_RECORD_BYTES

_CHECK_HEX = 32
_CHECK_AT = -(_CHECK_HEX + len(b',"check":"') + len(b'"}'))
_encoder = msgspec.json.Encoder(order="deterministic")
_slot_decoder: msgspec.json.Decoder[Slot] = msgspec.json.Decoder(Slot)
_recipe_decoder = msgspec.json.Decoder(RecipeEntry)
_format_decoder = msgspec.json.Decoder(StoreFormat)
_decision_decoder = msgspec.json.Decoder(Decision)
_Decoded = TypeVar("_Decoded", ResultRecord | RedirectRecord | IntentRecord, RecipeEntry, StoreFormat, Decision)
_Written = TypeVar("_Written", bound=Settled | RecipeEntry | StoreFormat | Decision)
_Signed = TypeVar("_Signed", ResultRecord, RecipeEntry, Decision)


class _Header(msgspec.Struct):
    v: int = 0
    format: int = 0
    kind: str = ""


_header_decoder = msgspec.json.Decoder(_Header)


def encode(record: Settled | RecipeEntry | StoreFormat | Decision) -> bytes:
    """Encode a record, a result of a transaction as an intent.

    Information for people is omitted if it cannot be encoded or exceeds the size limit.

    Raises `StoreError` if that is not enough.
    """
    return _fitting(record, lambda form: form)[1]


def encode_signed(record: _Signed, sign: Callable[[_Signed], _Signed]) -> tuple[_Signed, bytes]:
    """Encode a record with a signature of what a reader will see. Return the signed record and its bytes."""

    def signed(form: _Signed) -> _Signed:
        return sign(msgspec.json.decode(_encoder.encode(form), type=type(form)))

    return _fitting(record, signed)


def canonical(record: ResultRecord | RecipeEntry | Decision) -> bytes:
    """Return the bytes that a signature covers: the kind of record, and every field except the signature, in order.

    Equal records have the same bytes, whether they were read or unpickled. A field added in a later version must only
    be included if it is set; otherwise older signatures would become invalid.
    """
    said = list(msgspec.structs.astuple(record)[:-1])
    if isinstance(record, ResultRecord):
        said[_INLINE] = record.inline if bytes(record.inline) else None  # an empty value is not valid JSON
        if not record.transaction:
            said.pop()
        return b"penstock result 1\n" + _encoder.encode(said)
    return (b"penstock recipe 1\n" if isinstance(record, RecipeEntry) else b"penstock decision 1\n") + _encoder.encode(
        said
    )


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
        problem = f"it has {len(data)} bytes, and the limit is {MAX_RECORD_BYTES}"
    raise StoreError("a record cannot be written", because=problem)


def _forms(record: _Written) -> Iterator[_Written]:
    yield record
    if isinstance(record, ResultRecord):
        narrow: _Written = msgspec.structs.replace(record, about=msgspec.structs.replace(record.about, columns={}))
        yield narrow
        yield msgspec.structs.replace(narrow, key_parts={"left out": "more than fits into a record"})


def _with_check(record: msgspec.Struct) -> bytes:
    if isinstance(record, ResultRecord) and record.transaction:
        record = IntentRecord(v=RECORD_VERSION, result=record)
    body = _encoder.encode(record)[:-1]
    return body + b',"check":"' + blake3(body).hexdigest(_CHECK_HEX // 2).encode() + b'"}'


def decode_slot(data: bytes, *, task: str, key: str, generation: int) -> Slot:
    """Decode the record in a slot.

    Raises `DamagedResult` if it is damaged or belongs elsewhere, and `StoreVersionError` if a newer version of Penstock
    wrote it.
    """
    record = _decoded_slot(data)
    if isinstance(record, RedirectRecord):
        at_home = record.slot == slot_name(task, key, generation)
    else:
        result = record.result if isinstance(record, IntentRecord) else record
        at_home = result.key == key and result.task == task and result.generation == generation
    if not at_home:
        raise _misplaced(record, slot_name(task, key, generation))
    return record


def decode_slot_at(data: bytes, name: str) -> Slot:
    """Decode the record in a slot of which only the name is known. Raises the errors of `decode_slot`."""
    record = _decoded_slot(data)
    if (record.slot if isinstance(record, RedirectRecord) else record.slot_name) != name:
        raise _misplaced(record, name)
    return record


def _decoded_slot(data: bytes) -> Slot:
    record = _decode(data, _slot_decoder)
    if not isinstance(record, RedirectRecord) and isinstance(record, IntentRecord) is not bool(record.transaction):
        raise DamagedResult(
            "a record is damaged", because="a result of a transaction is not marked as one, or the other way round"
        )
    return record


def decode_decision(data: bytes, transaction: str) -> Decision:
    """Decode the decision about a transaction. Raises the errors of `decode_slot`."""
    decision = _decode(data, _decision_decoder)
    if decision.transaction != transaction:
        raise DamagedResult("a decision is about another transaction", where=decision_name(transaction))
    return decision


def _misplaced(record: Slot, name: str) -> DamagedResult:
    home = record.slot if isinstance(record, RedirectRecord) else record.slot_name
    return DamagedResult("a record is stored under the wrong name", where=name, because=f"it belongs at {home}")


def decode_recipe(data: bytes, *, recipe: str) -> RecipeEntry:
    """Decode a recipe entry. Raises the errors of `decode_slot`."""
    entry = _decode(data, _recipe_decoder)
    if entry.recipe != recipe:
        raise DamagedResult("a recipe entry is stored under the name of another recipe", where=recipe_name(recipe))
    return entry


def decode_recipe_at(data: bytes, name: str) -> RecipeEntry:
    """Decode a recipe entry of which only the name is known. Raises the errors of `decode_slot`."""
    entry = _decode(data, _recipe_decoder)
    if recipe_name(entry.recipe) != name:
        raise DamagedResult("a recipe entry is stored under the name of another recipe", where=name)
    return entry


def check_format(data: bytes) -> None:
    """Check the description of a store. Raises `StoreVersionError` for a newer layout, `DamagedResult` if invalid."""
    _decode(data, _format_decoder)


def _decode(data: bytes, decoder: msgspec.json.Decoder[_Decoded]) -> _Decoded:
    body = data[:_CHECK_AT]
    if data[_CHECK_AT:] != b',"check":"' + blake3(body).hexdigest(_CHECK_HEX // 2).encode() + b'"}':
        _refuse_newer(data)
        raise DamagedResult(
            "a record is damaged",
            because="its bytes differ from what was written",
        )
    try:
        record = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse_newer(data)
        # Intact but unknown: from another version, so it must not be treated as damaged and replaced.
        raise StoreVersionError(
            "a record has a kind that this version of Penstock does not know",
            because=str(error),
            hint="upgrade Penstock on this machine",
        ) from error
    if isinstance(record, StoreFormat):
        if record.format > FORMAT_VERSION:
            _refuse_newer(data)
    elif record.v > RECORD_VERSION:
        _refuse_newer(data)
    return record


def _refuse_newer(data: bytes) -> None:
    """Raise `StoreVersionError` if a newer version of Penstock wrote these bytes."""
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
                hint="upgrade Penstock on this machine, or choose another store with PENSTOCK_STORE",
                found=found,
                known=known,
            )
