"""Containers of tables, arrays or objects: a manifest with the container, and each part in its own format.

The container (tuples, dicts, dataclasses, models, at any depth) is typed JSON in the manifest. A table is a Parquet
file and an array an .npy file next to it; small ones are in the manifest itself. Objects that need pickle are together
in one .pkl file, so that shared objects stay shared; the rules for pickles then apply to the whole container. Unlike
datasets, which use the same kinds of files, containers are read whole.
"""

from __future__ import annotations

import base64
import contextvars
import functools
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

import msgspec

from penstock.errors import SerializationError
from penstock.storage.formats.base import Serializer, type_name
from penstock.storage.formats.parts.manifests import (
    CONTAINER_VERSION,
    MANIFEST_SUFFIX,
    Leaf,
    Manifest,
    PartSink,
    StoredParts,
)
from penstock.storage.formats.path_results import facts_of_paths, merged_facts
from penstock.storage.formats.sizes import nbytes_of
from penstock.storage.formats.typed.json import Unkept, decode, encode
from penstock.storage.formats.verified_files import StoredFile
from penstock.storage.records.records import CONTAINER, About

SMALL_BYTES = 2 << 10
"""Arrays and the like up to this size have no file of their own."""
_AT_ONCE = 8
"""The number of parts that are written or fetched concurrently."""
Choose = Callable[[Any], Serializer]
ReaderOf = Callable[[str, bool], Serializer]


@dataclass(slots=True)
class EncodedContainer:
    """An encoded container: a serializer for this value only."""

    name: str
    safe: bool
    value: Any
    document: bytes = b""
    leaves: list[tuple[Any, Serializer]] = field(default_factory=list)
    pickled: list[int] = field(default_factory=list)
    """The numbers of the leaves that need pickle."""
    paths: list[Any] = field(default_factory=list)
    """The paths that the container itself holds."""
    suffix: str = MANIFEST_SUFFIX

    def can(self, value: Any) -> bool:
        return True

    def write_parts(self, value: Any, sink: PartSink) -> tuple[Manifest, str]:
        """Write all parts. Return their manifest and the name of the container's type."""
        places: list[Leaf | None] = [None] * len(self.leaves)
        files: list[tuple[Any, Serializer, list[int]]] = []
        for number, (leaf, serializer) in enumerate(self.leaves):
            if serializer.safe:
                places[number] = _small(leaf, serializer)
                if places[number] is None:
                    files.append((leaf, serializer, [number]))
        if self.pickled:
            objects = [self.leaves[number][0] for number in self.pickled]
            files.append((objects, self.leaves[self.pickled[0]][1], self.pickled))
        for at, (_, _, numbers) in enumerate(files):
            for item, number in enumerate(numbers):
                places[number] = Leaf(part=at, item=item if numbers is self.pickled else None)
        parts = _all_at_once(
            [functools.partial(sink.write_value, at, leaf, by) for at, (leaf, by, _) in enumerate(files)]
        )
        made = [place for place in places if place is not None]
        manifest = Manifest(CONTAINER_VERSION, parts=tuple(parts), value=msgspec.Raw(self.document), leaves=tuple(made))
        return manifest, type_name(value)

    def about(self, manifest: Manifest, kind: str) -> About:
        """What the record says of the value."""
        facts = [part.about.details for part in manifest.parts if part.codec == "pickle"]
        return About(type=kind, details=merged_facts([*facts, facts_of_paths(self.paths)]))

    def write(self, value: Any, file: BinaryIO) -> NoReturn:
        raise _no_file(self.name)

    def read(self, data: memoryview, about: About, *, limit: int) -> NoReturn:
        raise _no_file(self.name)


class ContainerSerializer:
    """Containers whose parts have formats of their own, with or without pickles."""

    suffix = MANIFEST_SUFFIX

    def __init__(self, choose: Choose, reader_of: ReaderOf, *, safe: bool) -> None:
        self.name = CONTAINER if safe else f"{CONTAINER}/pickle"
        self.safe = safe
        self._choose, self._reader_of = choose, reader_of

    def can(self, value: Any) -> bool:
        return self.prepare(value) is not None

    def prepare(self, value: Any) -> EncodedContainer | None:
        """Encode a container. Returns None for other values, and for containers without a separate part."""
        if isinstance(value, _LEAVES) or not _may_hold_parts(value):
            return None
        made = EncodedContainer(self.name, self.safe, value)
        numbers: dict[int, int] = {}

        def part(leaf: Any) -> int | None:
            known = numbers.get(id(leaf))
            if known is not None:
                return known
            if leaf is value:
                return None  # an object, not a container
            serializer = self._choose(leaf)
            if not serializer.safe and (self.safe or serializer.name != "pickle"):
                return None
            number = numbers[id(leaf)] = len(made.leaves)
            if not serializer.safe:
                made.pickled.append(number)
            made.leaves.append((leaf, serializer))
            return number

        try:
            made.document = encode(value, part, paths=made.paths)
        except Unkept:
            return None
        return made if len(made.pickled) < len(made.leaves) and self.safe is not bool(made.pickled) else None

    def load(self, parts: StoredParts, *, limit: int) -> Any:
        """Read the whole container. Raises the errors of reading its parts."""
        manifest = parts.manifest
        serializers = [self._reader_of(part.codec, not self.safe) for part in manifest.parts]
        left = limit - sum(part.size for part in manifest.parts)
        if left < 0:
            raise SerializationError("a result is too large", because=f"{limit} bytes is the limit")
        fetched = _all_at_once(
            [functools.partial(_contents, *each) for each in zip(parts.files, serializers, strict=True)]
        )
        values = []
        for number, (part, serializer) in enumerate(zip(manifest.parts, serializers, strict=True)):
            values.append(serializer.read(fetched[number], part.about, limit=left))
            fetched[number] = memoryview(b"")
            left -= max(0, _size_of(values[-1]) - part.size)
            if left < 0:
                raise SerializationError("a result is too large", because=f"{limit} bytes is the limit")
        leaves = [self._leaf(leaf, values, left) for leaf in manifest.leaves]
        return decode(bytes(manifest.value), leaves)

    def _leaf(self, leaf: Leaf, values: list[Any], limit: int) -> Any:
        if leaf.part >= 0:
            return values[leaf.part] if leaf.item is None else values[leaf.part][leaf.item]
        data = base64.b64decode(leaf.data, validate=True)
        return self._reader_of(leaf.codec, False).read(memoryview(bytearray(data)), leaf.about, limit=limit)

    def write(self, value: Any, file: BinaryIO) -> NoReturn:
        raise _no_file(self.name)

    def read(self, data: memoryview, about: About, *, limit: int) -> NoReturn:
        raise _no_file(self.name)


_LEAVES = (str, bytes, bytearray, int, float, complex, type(None))


def _may_hold_parts(value: Any) -> bool:
    """Return whether a value should be searched for parts. Arrays and tables themselves are not containers."""
    return type(value).__module__.partition(".")[0] not in ("numpy", "pandas", "polars", "pyarrow", "dask", "ray")


def _small(leaf: Any, serializer: Serializer) -> Leaf | None:
    """Return a leaf for the manifest itself, or None if it is too large."""
    if _size_of(leaf) > SMALL_BYTES or serializer.suffix == ".parquet":
        return None
    buffer = io.BytesIO()
    about = serializer.write(leaf, buffer) or About()
    data = buffer.getvalue()
    if len(data) > SMALL_BYTES:
        return None
    return Leaf(codec=serializer.name, about=about, data=base64.b64encode(data).decode("ascii"))


def _size_of(value: Any) -> int:
    size = nbytes_of(value)
    if not size and hasattr(value, "estimated_size"):
        size = int(value.estimated_size())
    return size or sys.getsizeof(value)


def _contents(file: StoredFile, serializer: Serializer) -> memoryview:
    return file.contents(own=getattr(serializer, "owns_data", False))


def _all_at_once(works: list[Callable[[], Any]]) -> list[Any]:
    """Run functions concurrently and return their results."""
    if len(works) < 2:
        return [work() for work in works]
    from concurrent.futures import ThreadPoolExecutor  # slow to import, and impossible when the program ends

    with ThreadPoolExecutor(min(_AT_ONCE, len(works)), "penstock-parts") as pool:
        runs = [pool.submit(contextvars.copy_context().run, work) for work in works]
        return [run.result() for run in runs]


def _no_file(name: str) -> SerializationError:
    return SerializationError(f"{name!r} is not a single file", because="it is written in parts")
