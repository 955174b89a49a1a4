"""Values in parts: partitioned Parquet datasets of streams and of Dask and Ray collections.

Parts are written by the workers that hold them, and the values are read lazily. The code for each engine is in a module
of its own, which is imported only when such a value is written or read.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, BinaryIO, ClassVar, NoReturn

from penstock.errors import SerializationError
from penstock.storage.formats.arrow.batches import batches_of, is_reader, is_stream
from penstock.storage.formats.arrow.parquet import check_kept, columns_of
from penstock.storage.formats.parts.manifests import MANIFEST_SUFFIX, Manifest, PartSink, StoredParts
from penstock.storage.formats.sizes import arrow_bytes
from penstock.storage.records.records import About

PART_BYTES = 128 << 20
"""The approximate size of a stream's parts in memory, before encoding and compression."""


class DatasetSerializer(ABC):
    """A `Serializer` of values that are never in memory as a whole. Its files are parts and a manifest."""

    name: ClassVar[str]
    suffix: ClassVar[str] = MANIFEST_SUFFIX
    safe: ClassVar[bool] = True

    @abstractmethod
    def can(self, value: Any) -> bool:
        """Return what `Serializer.can` returns."""

    @abstractmethod
    def write_parts(self, value: Any, sink: PartSink) -> tuple[Manifest, str]:
        """Write all parts. Return their manifest and the name of the value's type among those of the codec."""

    @abstractmethod
    def read_parts(self, parts: StoredParts, about: About) -> Any:
        """Return the lazy value, whose parts are read and verified when they are used."""

    def about(self, manifest: Manifest, kind: str) -> About:
        """Return the information for the record."""
        return About(type=kind, rows=manifest.rows, columns=columns_of(manifest.arrow_schema()))

    def write(self, value: Any, file: BinaryIO) -> NoReturn:
        raise self._no_file()

    def read(self, data: memoryview, about: About, *, limit: int) -> NoReturn:
        raise self._no_file()

    def _no_file(self) -> SerializationError:
        return SerializationError(f"{self.name!r} is not a single file", because="it is written in parts")


class StreamDatasetSerializer(DatasetSerializer):
    """pyarrow Datasets and, on request, streams of record batches. Both are read as a Dataset.

    Written part by part, with one part in memory at a time.
    """

    name = "parquet/dataset"

    def can(self, value: Any) -> bool:
        return is_reader(value) or is_stream(value) or _is_arrow_dataset(value)

    def write_parts(self, value: Any, sink: PartSink) -> tuple[Manifest, str]:
        schema, batches = batches_of(value.scanner().to_reader() if _is_arrow_dataset(value) else value)
        check_kept(schema)
        written = [sink.write(number, table) for number, table in enumerate(_tables(schema, batches))]
        return sink.manifest(written, schema=schema), "Dataset"

    def read_parts(self, parts: StoredParts, about: About) -> Any:
        from penstock.storage.formats.parts.scanning import dataset_of

        return dataset_of(parts.files, "parquet", parts.manifest.arrow_schema(), checked=True)


def _tables(schema: Any, batches: Iterator[Any]) -> Iterator[Any]:
    """Combine batches to parts. Yields at least one."""
    import pyarrow as pa

    held: list[Any] = []
    size, any_yet = 0, False
    for batch in batches:
        if not batch.schema.equals(schema):
            raise SerializationError(
                "the batches of a stream have different schemas",
                because=f"the first has {', '.join(schema.names)}, and another one {', '.join(batch.schema.names)}",
                hint="yield batches with the same columns of the same types",
            )
        held.append(pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch)
        size += arrow_bytes(batch)
        if size >= PART_BYTES:
            table, held, size, any_yet = pa.concat_tables(held), [], 0, True
            yield table
    if held or not any_yet:
        yield pa.concat_tables(held) if held else schema.empty_table()


class EngineSerializer(DatasetSerializer):
    """Lazy values of an engine, which are written by its workers. The engine's module does the work."""

    types: ClassVar[tuple[str, ...]]
    """The names of the types, so that no engine is imported to check a value."""
    package: ClassVar[str]
    module: ClassVar[str]

    def can(self, value: Any) -> bool:
        kind = type(value)
        return kind.__module__.startswith(self.package) and kind.__name__ in self.types

    def write_parts(self, value: Any, sink: PartSink) -> tuple[Manifest, str]:
        written: tuple[Manifest, str] = self._on_use().write_parts(value, sink)
        return written

    def read_parts(self, parts: StoredParts, about: About) -> Any:
        return self._on_use().read_parts(parts, about)

    def _on_use(self) -> Any:
        return importlib.import_module(f"penstock.storage.formats.parts.{self.module}")


class DaskSerializer(EngineSerializer):
    """Dask DataFrames and Series. Each partition is written by the worker that computes it.

    Partitions and known divisions are preserved. Categories are read as unknown, as from Dask's own Parquet files.
    """

    name = "parquet/dask"
    types = ("DataFrame", "Series")
    package = "dask.dataframe"
    module = "dask_frames"


class RaySerializer(EngineSerializer):
    """Ray Datasets. Blocks are written by the workers that hold them, in order, and read by workers."""

    name = "parquet/ray"
    types = ("Dataset", "MaterializedDataset")
    package = "ray.data"
    module = "ray_datasets"


def is_dataset(value: Any) -> bool:
    """Return whether a value is always written in parts, so that only its stored form has a digest."""
    return _is_arrow_dataset(value) or DaskSerializer().can(value) or RaySerializer().can(value)


def _is_arrow_dataset(value: Any) -> bool:
    # By name, since another thread may be importing the module at the moment.
    return any(base.__name__ == "Dataset" and base.__module__.startswith("pyarrow") for base in type(value).__mro__)
