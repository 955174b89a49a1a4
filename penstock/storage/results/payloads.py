"""The bytes of values, hashed while they are written and verified before they are read."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.errors import PenstockError, SerializationError
from penstock.storage.formats.base import Serializer
from penstock.storage.formats.classes import reading
from penstock.storage.formats.containers import ContainerSerializer, EncodedContainer
from penstock.storage.formats.fitness import other_versions
from penstock.storage.formats.hashing_file import HashedFile
from penstock.storage.formats.parts.datasets import DatasetSerializer
from penstock.storage.formats.parts.manifests import (
    Digests,
    PartSink,
    all_files,
    check_parts,
    payload_file,
    read_parts,
    write_manifest,
    written_to,
)
from penstock.storage.formats.registry import reader_of
from penstock.storage.records.names import attempt_prefix, payload_name
from penstock.storage.records.records import INLINE_BYTES, About, PayloadFile, ResultRecord
from penstock.storage.stores.base import Store


@dataclass(frozen=True, slots=True)
class Place:
    """The attempt whose files are written."""

    task: str
    key: str
    generation: int
    attempt: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A written payload."""

    payload: PayloadFile
    about: About
    digest: str | None = None
    """The digest of a value in parts, if all parts have one."""


def as_inline(value: Any, serializer: Serializer) -> tuple[msgspec.Raw, About] | None:
    """Return a small value that is stored as JSON in its inline form, or None."""
    if serializer.name.partition("/")[0] != "json":
        return None
    buffer = io.BytesIO()
    about = written_to(buffer, value, serializer)
    data = buffer.getvalue()
    return (msgspec.Raw(data), about) if len(data) <= INLINE_BYTES else None


def write_payload(
    store: Store, place: Place, value: Any, serializer: Serializer, digests: Digests | None = None
) -> Stored:
    """Write a value durably.

    Raises `SerializationError` if the serializer cannot store it, the store's errors, and unchanged whatever the code
    of a stream or lazy value raises. Leaves no files behind then.
    """
    name = payload_name(place.task, place.key, place.generation, place.attempt, serializer.suffix)
    if isinstance(serializer, DatasetSerializer | EncodedContainer):
        return _write_parts(store, place, name, value, serializer, digests)
    with store.create(name) as out:
        file = HashedFile(out)
        try:
            about = written_to(file, value, serializer)
        finally:
            file.finish()
    return Stored(PayloadFile(suffix=serializer.suffix, size=file.size, checksum=file.checksum.hexdigest()), about)


def _write_parts(
    store: Store,
    place: Place,
    name: str,
    value: Any,
    serializer: DatasetSerializer | EncodedContainer,
    digests: Digests | None,
) -> Stored:
    prefix = attempt_prefix(place.task, place.key, place.generation, place.attempt)
    sink = PartSink(store, prefix, digests.part if digests is not None else None)
    try:
        manifest, kind = serializer.write_parts(value, sink)
        payload = write_manifest(store, name, manifest)
    except BaseException:
        sink.discard()
        raise
    of_parts = [part.digest for part in manifest.parts]
    lazy = isinstance(serializer, DatasetSerializer)
    digest = digests.whole([serializer.name, kind, *of_parts]) if lazy and digests and all(of_parts) else None
    return Stored(payload, serializer.about(manifest, kind), digest)


def read_value(
    store: Store,
    record: ResultRecord,
    *,
    allow_pickle: bool,
    limit: int,
    believed: Callable[[], bool] = lambda: False,
) -> Any:
    """Read and verify the value of a record. For a value in parts, verify the manifest and the existence of the parts.

    Modules of the value's classes are imported if the record is `believed`; otherwise they must be imported already.

    Raises `CodecRefused` before any byte is read, `DamagedResult` if the bytes differ from what was written,
    `SerializationError` if they cannot be read or need more than `limit` bytes of memory, and `StoreUnreachable`.
    """
    with reading(record.task, believed=believed):
        return _value(store, record, reader_of(record.codec, allow_unsafe=allow_pickle), limit)


def _value(store: Store, record: ResultRecord, serializer: Serializer, limit: int) -> Any:
    if record.payload is not None and record.payload.size > limit:
        raise SerializationError(
            f"a result of {record.payload.size} bytes is too large to load",
            because=f"the limit is {limit} bytes",
            hint="scan it if it is a table, or load it on a machine with more memory",
        )
    if isinstance(serializer, ContainerSerializer):
        return _read(record, lambda: serializer.load(read_parts(store, record), limit=limit))
    if isinstance(serializer, DatasetSerializer):
        parts = read_parts(store, record)
        check_parts(store, record, parts)
        return _read(record, lambda: serializer.read_parts(parts, record.about))
    if record.payload is None:
        data = memoryview(bytes(record.inline))
    else:
        data = payload_file(store, record).contents(own=getattr(serializer, "owns_data", False))
    return _read(record, lambda: serializer.read(data, record.about, limit=limit))


def _read(record: ResultRecord, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except PenstockError:
        raise
    except Exception as error:
        raise SerializationError(
            f"a stored result of {record.task} cannot be read",
            where=record.payload_name or "inline",
            because=f"{type(error).__name__}: {error}",
            hint=f"it was stored with {versions}" if (versions := other_versions(record)) else _REFRESH,
        ) from error


_REFRESH = "its code or a package may have changed: refresh the result"


def verify_payload(store: Store, record: ResultRecord) -> set[str]:
    """Verify a value's files and return their names. Raises `DamagedResult` if bytes are missing or changed."""
    files = all_files(store, record)
    for file in files:
        file.verify()
    return {file.name for file in files}
