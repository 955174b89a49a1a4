"""Values in several files: a file for each part, and a manifest that says which files those are.

    results/<task>/<key>/000000.<attempt>.parts.json                the manifest: what the record calls its payload
    results/<task>/<key>/000000.<attempt>.<number>-<mark>.parquet   a part: of a dataset; of a container also .npy, …

Of a dataset, which is read lazily, all parts have one schema (datasets). Of a container, which is read whole, the
manifest has the container itself, and each part is a value in a format of its own (containers).

A part is written by whoever has it, on any machine, through the same store. Each try to write one has a mark of its own
in its name, so a part that is written twice, because a worker died that had written it, is two files, and the manifest
says which one counts. The other is removed with the garbage. The manifest is written when all parts are
durable, and before the record (R3). The record holds its checksum, and it holds theirs: names are computed from the
record and a part's number and mark, and lead nowhere else.
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
"""Of the manifests of containers: who knows only those of datasets knows that it does not know these."""


@dataclass(frozen=True, slots=True)
class Digests:
    """How the caller digests a value that nobody has as a whole."""

    part: Callable[[Any], str | None]
    """Of a part's table, None if it has none; a function that can be imported, since it travels to workers."""
    whole: Callable[[Sequence[str]], str]
    """Of the codec, the kind of value and the parts' digests, in order."""


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part, as it was written."""

    number: int
    """Its place in the order of parts; some numbers may be missing."""
    mark: str
    """Of the try that wrote it: 8 hex digits."""
    size: int
    """Bytes."""
    checksum: str
    """blake3 of the bytes, hex."""
    rows: int = 0
    digest: str = ""
    """Of the table, as the caller computed it."""
    codec: str = ""
    """Of a container's part; a dataset's are all Parquet."""
    suffix: str = ".parquet"
    about: About = About()
    """As in a record, of a container's part."""


class Leaf(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a leaf of a container is."""

    part: int = -1
    """The place of its part among the parts; -1: here."""
    item: int | None = None
    """Its place in the list that the part is; None: it is the part."""
    codec: str = ""
    about: About = About()
    data: str = ""
    """Of a small leaf that has no file: its bytes, in base 64."""


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parts of one value, in order."""

    v: int
    schema: str = ""
    """Of a dataset, the Arrow schema of all parts: an IPC message in base 64."""
    parts: tuple[Part, ...] = ()
    details: dict[str, str] = {}
    """What the serializer needs besides, to make the same value of them again."""
    value: msgspec.Raw = NOT_INLINE
    """Of a container, itself as typed JSON, with `{"$part": n}` where leaf n belongs."""
    leaves: tuple[Leaf, ...] = ()

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    def arrow_schema(self) -> Any:
        """Raises `SerializationError` if this pyarrow does not know it."""
        import pyarrow as pa

        try:
            message = base64.b64decode(self.schema)
            check_message(message)
            return pa.ipc.read_schema(pa.py_buffer(message))
        except (ValueError, OSError, NotImplementedError) as error:
            raise SerializationError("a dataset's schema does not read back", because=str(error)) from error


class _Header(msgspec.Struct):
    v: int


@dataclass(frozen=True, slots=True)
class Written:
    """A part that is durable, and the schema it was written with."""

    part: Part
    schema: Any


@dataclass(frozen=True, slots=True)
class PartSink:
    """Where the parts of one attempt go. Pickles, if its store does, so that workers write what they have."""

    store: Store
    prefix: str
    """How the names of the attempt's files begin."""
    digest: Callable[[Any], str | None] | None = None
    """As `Digests.part`."""

    def write(self, number: int, table: Any) -> Written:
        """Write a part, durable when it returns, while its digest is computed beside. Raises what the store raises,
        and `SerializationError` for a table that Parquet does not keep."""
        unknown = unknown_extensions(table.schema)
        if unknown:
            raise SerializationError(
                f"columns of the type {unknown!r} cannot be stored",
                because="reading them back may run code that whoever can write to the store has chosen",
                hint="store them as plain Arrow types",
            )
        from concurrent.futures import ThreadPoolExecutor  # the time it takes to import is for large results

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
        """Write a value as a part, durable when it returns. Raises what the store and the serializer raise."""
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
        """What is to be read again later. Raises `SerializationError` if the parts do not fit together."""
        ordered = sorted(written, key=lambda each: each.part.number)
        schema = schema if schema is not None else _one_schema([each.schema for each in ordered])
        encoded = base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")
        return Manifest(_VERSION, encoded, tuple(each.part for each in ordered), details or {})

    def discard(self, kept: Manifest | None = None) -> None:
        """Remove what this attempt wrote and nobody will read: all of it, or all but the parts of a manifest.

        As far as the store lets us; the rest goes with the garbage.
        """
        keep = {part_name(self.prefix, part.number, part.mark, part.suffix) for part in (kept.parts if kept else ())}
        remove_files(self.store, self.prefix, keep)


def _one_schema(schemas: Sequence[Any]) -> Any:
    import pyarrow as pa

    if not schemas:
        raise SerializationError(
            "a dataset without parts cannot be stored", because="nothing says which columns it has"
        )
    distinct = [schema for n, schema in enumerate(schemas) if n == 0 or not schema.equals(schemas[n - 1])]
    try:
        return pa.unify_schemas(distinct).with_metadata(distinct[0].metadata)
    except pa.ArrowException as error:
        raise SerializationError(
            "the parts of a dataset do not fit together",
            because=str(error),
            hint="give all of them the same columns, with the same types",
        ) from error


def written_to(file: Any, value: Any, serializer: Serializer) -> About:
    """Have a value written to a file. Raises `SerializationError`, and what the store raises."""
    try:
        return serializer.write(value, file) or About()
    except Exception as error:
        # Some writers wrap what their file raises in errors of their own.
        store_error = getattr(file, "error", None)
        if store_error is not None and store_error is not error:
            raise store_error from error
        # What a stream's own code raises is the task's error, not ours.
        if store_error is not None or isinstance(error, PenstockError) or isinstance(value, Iterator):
            raise
        raise SerializationError(
            f"a {type_name(value)} cannot be stored as {serializer.name!r}", because=f"{type(error).__name__}: {error}"
        ) from error


def write_manifest(store: Store, name: str, manifest: Manifest) -> PayloadFile:
    """Write the manifest, durable when it returns."""
    if not bytes(manifest.value):
        # One that came from a worker has an equal default, and not the one that is left out.
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
    """The parts of a published value, for whoever reads them."""

    manifest: Manifest
    files: tuple[StoredFile, ...]
    """As the manifest has them."""


def payload_file(store: Store, record: ResultRecord) -> StoredFile:
    """The file that the record names. Raises `StoreError` for a forged suffix or attempt, `DamagedResult` for a record
    that is of parts and names no file."""
    if record.payload is None:  # nobody wrote that: what a reader asks for has a file
        raise DamagedResult("a record names no file", where=record.task, because=f"its codec is {record.codec!r}")
    return StoredFile(store, record.payload_name or "", record.payload.size, record.payload.checksum, record.task)


def read_parts(store: Store, record: ResultRecord) -> StoredParts:
    """The parts of a record that has some; the manifest is verified, they are not.

    Raises `DamagedResult`, `StoreUnreachable`.
    """
    file = payload_file(store, record)
    data = file.contents()
    try:
        _refuse_newer(file, msgspec.json.decode(data, type=_Header).v)  # which may be anything but for this
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
        raise file.damaged(f"its manifest does not read back: {error}") from error
    return StoredParts(manifest, files)


def _refuse_newer(file: StoredFile, version: int) -> None:
    if version > CONTAINER_VERSION:
        raise StoreVersionError(
            f"the manifest has version {version}",
            where=file.name,
            because=f"this Penstock reads versions up to {CONTAINER_VERSION}",
            hint="upgrade Penstock here",
            found=version,
            known=CONTAINER_VERSION,
        )


def check_parts(store: Store, record: ResultRecord, parts: StoredParts) -> None:
    """Raises `DamagedResult` if a part is missing or of another size, as one listing says; reads none of them."""
    folder = record.files.rpartition("/")[0] + "/"
    sizes = {entry.name: entry.size for entry in store.list(folder)}
    for file in parts.files:
        if file.name not in sizes:
            raise file.damaged("a part of it is gone", gone=True)
        if sizes[file.name] != file.size:
            raise file.damaged(f"a part of it is not the {file.size} bytes that were written")


def value_files(store: Store, record: ResultRecord) -> list[StoredFile]:
    """The files that hold the value: one, its parts, or none if it is inside the record. Raises as `read_parts`."""
    if record.payload is None:
        return []
    if not record.in_parts:
        return [payload_file(store, record)]
    return list(read_parts(store, record).files)


def all_files(store: Store, record: ResultRecord) -> list[StoredFile]:
    """As `value_files`, and the manifest."""
    files = value_files(store, record)
    if record.in_parts:
        files.append(payload_file(store, record))
    return files


def remove_files(store: Store, prefix: str, keep: Iterable[str] = ()) -> None:
    """Remove the files of an attempt, as far as the store lets us: the garbage collector would do it, too."""
    kept = set(keep)
    with contextlib.suppress(StoreError):
        doomed = [entry.name for entry in store.list(prefix.rpartition("/")[0] + "/") if entry.name.startswith(prefix)]
        for name in doomed:
            if name not in kept:
                store.delete(name)
