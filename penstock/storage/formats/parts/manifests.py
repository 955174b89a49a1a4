"""Values in several files: a file for each part, and a manifest that lists them.

    results/<task>/<key>/000000.<attempt>.parts.json                the manifest: the payload of the record
    results/<task>/<key>/000000.<attempt>.<number>-<mark>.parquet   a part: of a dataset; of a container also .npy, …

A dataset is read lazily, and all of its parts have one schema (datasets). A container is read whole: the manifest
contains the container itself, and each part is a value in its own format (containers).

Parts are written by the workers that hold them, on any machine, to the same store. Each attempt to write a part has its
own mark in the name. If a part is written twice, because a worker died after writing it, there are two files; the
manifest lists one, and the garbage collector removes the other. The manifest is written after all parts are durable,
and before the record (R3). The record contains the manifest's checksum, and the manifest those of the parts. Names are
computed from the record and the parts' numbers and marks, so they cannot refer to other files.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.errors import DamagedResult, PenstockError, SerializationError, StoreError, StoreVersionError
from penstock.storage.formats.arrow.parquet import write_parquet
from penstock.storage.formats.arrow.schemas import check_message, unknown_extensions
from penstock.storage.formats.base import Serializer, type_name
from penstock.storage.formats.hashing_file import HashedFile
from penstock.storage.formats.verified_files import StoredFile
from penstock.storage.records.names import part_name
from penstock.storage.records.records import NOT_INLINE, About, PayloadFile, ResultRecord
from penstock.storage.stores.base import Store

MANIFEST_SUFFIX = ".parts.json"
_VERSION = 1
CONTAINER_VERSION = 2
"""The version of containers' manifests, which versions of Penstock that only know datasets refuse."""


@dataclass(frozen=True, slots=True)
class Digests:
    """How to digest a value that is never in memory as a whole."""

    part: Callable[[Any], str | None]
    """Returns the digest of a part's table, or None. Must be importable, since it is sent to workers."""
    whole: Callable[[Sequence[str]], str]
    """Returns the digest of the codec, the kind of value and the digests of the parts, in order."""


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part that was written."""

    number: int
    """Its position in the order of parts. Numbers may be missing."""
    mark: str
    """The mark of the attempt that wrote it: 8 hex digits."""
    size: int
    """Bytes."""
    checksum: str
    """blake3 of the bytes, hex."""
    rows: int = 0
    digest: str = ""
    """The digest of the table, computed by the caller."""
    codec: str = ""
    """The codec of a container's part. Parts of datasets are always Parquet."""
    suffix: str = ".parquet"
    about: About = About()
    """What a record contains, for a container's part."""


class Leaf(msgspec.Struct, frozen=True, omit_defaults=True):
    """The location of a leaf of a container."""

    part: int = -1
    """The index of its part; -1 if it is in the manifest."""
    item: int | None = None
    """Its index if the part is a list; None if it is the whole part."""
    codec: str = ""
    about: About = About()
    data: str = ""
    """The bytes of a small leaf without a file, in base 64."""


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parts of one value, in order."""

    v: int
    schema: str = ""
    """The Arrow schema of all parts of a dataset: an IPC message in base 64."""
    parts: tuple[Part, ...] = ()
    details: dict[str, str] = {}
    """What else the serializer needs to read the value."""
    value: msgspec.Raw = NOT_INLINE
    """A container as typed JSON, with `{"$part": n}` in place of leaf n."""
    leaves: tuple[Leaf, ...] = ()

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    def arrow_schema(self) -> Any:
        """Return the Arrow schema. Raises `SerializationError` if this pyarrow cannot read it."""
        import pyarrow as pa

        try:
            message = base64.b64decode(self.schema)
            check_message(message)
            return pa.ipc.read_schema(pa.py_buffer(message))
        except (ValueError, OSError, NotImplementedError) as error:
            raise SerializationError("the schema of a stored dataset cannot be read", because=str(error)) from error


class _Header(msgspec.Struct):
    v: int


@dataclass(frozen=True, slots=True)
class Written:
    """A durable part and its schema."""

    part: Part
    schema: Any


@dataclass(frozen=True, slots=True)
class PartSink:
    """Writes the parts of one attempt. Can be pickled if its store can, so that workers write what they hold."""

    store: Store
    prefix: str
    """The prefix of the names of the attempt's files."""
    digest: Callable[[Any], str | None] | None = None
    """As `Digests.part`."""

    def write(self, number: int, table: Any) -> Written:
        """Write a durable part while its digest is computed in another thread.

        Raises the store's errors, and `SerializationError` if the table has columns of an unknown extension type.
        """
        unknown = unknown_extensions(table.schema)
        if unknown:
            raise SerializationError(
                f"columns of the type {unknown!r} cannot be stored",
                because="reading them could run code of anyone who can write to the store",
                hint="store them as plain Arrow types",
            )
        from concurrent.futures import ThreadPoolExecutor  # slow to import, and only needed by large results

        mark = os.urandom(4).hex()
        with ThreadPoolExecutor(1, "penstock-digest") as pool:
            digested = pool.submit(self.digest, table) if self.digest is not None else None
            with self.store.create(part_name(self.prefix, number, mark)) as out:
                file = HashedFile(out)
                try:
                    write_parquet(table, file)
                finally:
                    file.finish()
            digest = (digested.result() or "") if digested is not None else ""
        part = Part(number, mark, file.size, file.checksum.hexdigest(), table.num_rows, digest)
        return Written(part, table.schema)

    def write_value(self, number: int, value: Any, serializer: Serializer) -> Part:
        """Write a value as a durable part. Raises the errors of the store and the serializer."""
        mark = os.urandom(4).hex()
        with self.store.create(part_name(self.prefix, number, mark, serializer.suffix)) as out:
            file = HashedFile(out)
            try:
                about = written_to(file, value, serializer)
            finally:
                file.finish()
        return Part(
            number,
            mark,
            file.size,
            file.checksum.hexdigest(),
            about.rows or 0,
            codec=serializer.name,
            suffix=serializer.suffix,
            about=about,
        )

    def manifest(
        self, written: Iterable[Written], details: dict[str, str] | None = None, schema: Any = None
    ) -> Manifest:
        """Return the manifest of the parts. Raises `SerializationError` if their schemas are incompatible."""
        ordered = sorted(written, key=lambda each: each.part.number)
        schema = schema if schema is not None else _one_schema([each.schema for each in ordered])
        encoded = base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")
        return Manifest(_VERSION, encoded, tuple(each.part for each in ordered), details or {})

    def discard(self, kept: Manifest | None = None) -> None:
        """Remove the files of this attempt, except the parts of a manifest.

        Files that cannot be removed are left to the garbage collector.
        """
        keep = {part_name(self.prefix, part.number, part.mark, part.suffix) for part in (kept.parts if kept else ())}
        remove_files(self.store, self.prefix, keep)


def _one_schema(schemas: Sequence[Any]) -> Any:
    import pyarrow as pa

    if not schemas:
        raise SerializationError(
            "a dataset without parts cannot be stored",
            because="its columns are unknown",
            hint="return a table without rows, or at least one empty part",
        )
    distinct = [schema for n, schema in enumerate(schemas) if n == 0 or not schema.equals(schemas[n - 1])]
    try:
        return pa.unify_schemas(distinct).with_metadata(distinct[0].metadata)
    except pa.ArrowException as error:
        raise SerializationError(
            "the parts of a dataset have different schemas",
            because=str(error),
            hint="give all parts the same columns with the same types",
        ) from error


def written_to(file: Any, value: Any, serializer: Serializer) -> About:
    """Write a value to a file. Raises `SerializationError`, and the store's errors."""
    try:
        return serializer.write(value, file) or About()
    except Exception as error:
        # Some writers wrap their file's exceptions in their own.
        store_error = getattr(file, "error", None)
        if store_error is not None and store_error is not error:
            raise store_error from error
        # Exceptions of a stream's own code are the task's.
        if store_error is not None or isinstance(error, PenstockError) or isinstance(value, Iterator):
            raise
        raise SerializationError(
            f"a {type_name(value)} cannot be stored as {serializer.name!r}", because=f"{type(error).__name__}: {error}"
        ) from error


def write_manifest(store: Store, name: str, manifest: Manifest) -> PayloadFile:
    """Write a durable manifest."""
    if not bytes(manifest.value):
        # One from a worker has an equal default instead of the identical one, which encoding omits.
        manifest = msgspec.structs.replace(manifest, value=NOT_INLINE)
    data = msgspec.json.encode(manifest)
    with store.create(name) as out:
        file = HashedFile(out)
        file.write(data)
        file.finish()
    return PayloadFile(
        suffix=MANIFEST_SUFFIX,
        size=file.size,
        checksum=file.checksum.hexdigest(),
        parts=len(manifest.parts),
        parts_bytes=sum(part.size for part in manifest.parts),
    )


@dataclass(frozen=True, slots=True)
class StoredParts:
    """The parts of a published value."""

    manifest: Manifest
    files: tuple[StoredFile, ...]
    """The files in the order of the manifest."""


def payload_file(store: Store, record: ResultRecord) -> StoredFile:
    """Return the file that the record names.

    Raises `StoreError` for a forged suffix or attempt, and `DamagedResult` if the record names no file.
    """
    if record.payload is None:  # a forged record
        raise DamagedResult(
            "a record names no file", where=record.task, because=f"its codec {record.codec!r} needs one"
        )
    return StoredFile(store, record.payload_name or "", record.payload.size, record.payload.checksum, record.task)


def read_parts(store: Store, record: ResultRecord) -> StoredParts:
    """Return the parts of a record, verifying the manifest but not the parts.

    Raises `DamagedResult` and `StoreUnreachable`.
    """
    file = payload_file(store, record)
    data = file.contents()
    try:
        _refuse_newer(file, msgspec.json.decode(data, type=_Header).v)  # a newer one may have any other shape
        manifest = msgspec.json.decode(data, type=Manifest)
        files = tuple(
            StoredFile(
                store,
                part_name(record.files, part.number, part.mark, part.suffix),
                part.size,
                part.checksum,
                record.task,
            )
            for part in manifest.parts
        )
    except StoreVersionError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, StoreError) as error:
        raise file.damaged(f"its manifest cannot be read: {error}") from error
    return StoredParts(manifest, files)


def _refuse_newer(file: StoredFile, version: int) -> None:
    if version > CONTAINER_VERSION:
        raise StoreVersionError(
            f"the manifest has version {version}",
            where=file.name,
            because=f"this Penstock reads versions up to {CONTAINER_VERSION}",
            hint="upgrade Penstock on this machine",
            found=version,
            known=CONTAINER_VERSION,
        )


def check_parts(store: Store, record: ResultRecord, parts: StoredParts) -> None:
    """Raise `DamagedResult` if a part is missing or has the wrong size, using one listing without reading any."""
    folder = record.files.rpartition("/")[0] + "/"
    sizes = {entry.name: entry.size for entry in store.list(folder)}
    for file in parts.files:
        if file.name not in sizes:
            raise file.damaged("a part of it is missing", gone=True)
        if sizes[file.name] != file.size:
            raise file.damaged(f"a part of it does not have the {file.size} bytes that were written")


def value_files(store: Store, record: ResultRecord) -> list[StoredFile]:
    """Return the files of the value: one, its parts, or none if it is in the record. Raises what `read_parts` does."""
    if record.payload is None:
        return []
    if not record.in_parts:
        return [payload_file(store, record)]
    return list(read_parts(store, record).files)


def all_files(store: Store, record: ResultRecord) -> list[StoredFile]:
    """Return the files of `value_files` and the manifest."""
    files = value_files(store, record)
    if record.in_parts:
        files.append(payload_file(store, record))
    return files


def remove_files(store: Store, prefix: str, keep: Iterable[str] = ()) -> None:
    """Remove the files of an attempt. Those that cannot be removed are left to the garbage collector."""
    kept = set(keep)
    with contextlib.suppress(StoreError):
        doomed = [entry.name for entry in store.list(prefix.rpartition("/")[0] + "/") if entry.name.startswith(prefix)]
        for name in doomed:
            if name not in kept:
                store.delete(name)
