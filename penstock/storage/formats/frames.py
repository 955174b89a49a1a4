"""Tables of pyarrow, pandas and polars, and streams of record batches, which are written with bounded memory.

Tables are stored as Parquet if that preserves everything, else as an Arrow file, which supports every type. Only tables
with Python objects that no format supports are left to pickle.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from penstock.errors import SerializationError
from penstock.storage.formats.arrow.batches import is_reader, is_stream
from penstock.storage.formats.arrow.ipc import read_arrow, write_arrow
from penstock.storage.formats.arrow.parquet import columns_of, lost_of_table, write_parquet, write_stream
from penstock.storage.formats.arrow.parquet_reading import read_parquet
from penstock.storage.formats.base import SerializerFallback, type_name
from penstock.storage.formats.classes import is_believed
from penstock.storage.formats.typed.json import Unkept
from penstock.storage.records.records import About

Form = Literal["parquet", "arrow"]


@dataclass(frozen=True, slots=True)
class EncodedTable:
    """A value that is already converted to an Arrow table: a serializer for this value only."""

    name: str
    suffix: str
    table: Any
    about: About
    safe: bool = True

    def can(self, value: Any) -> bool:
        return True

    def write(self, value: Any, file: BinaryIO) -> About:
        if self.suffix == ".parquet":
            write_parquet(self.table, file)
        else:
            write_arrow(self.table, file)
        return self.about

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        raise SerializationError("an encoded table is only for writing", because=f"{self.name!r} is read by its codec")


class ArrowSerializer:
    """pyarrow Tables and RecordBatches, and RecordBatchReaders and generators of batches, which are streamed."""

    name = "parquet/arrow"
    suffix = ".parquet"
    safe = True

    def can(self, value: Any) -> bool:
        if is_reader(value) or is_stream(value):
            return True
        return is_arrow_table(value) and not lost_of_table(value)

    def write(self, value: Any, file: BinaryIO) -> About:
        import pyarrow as pa

        if isinstance(value, pa.Table):
            write_parquet(value, file)
            return About(type="Table", rows=value.num_rows, columns=columns_of(value.schema))
        if isinstance(value, pa.RecordBatch):
            write_parquet(pa.Table.from_batches([value]), file)
            return About(type="RecordBatch", rows=value.num_rows, columns=columns_of(value.schema))
        schema, rows = write_stream(value, file)
        return About(type="Table", rows=rows, columns=columns_of(schema))

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        table = read_parquet(data, limit, believed=is_believed())
        if about.type != "RecordBatch":
            return table
        import pyarrow as pa

        columns = [column.combine_chunks() for column in table.columns]
        return pa.RecordBatch.from_arrays(columns, schema=table.schema)


class PandasSerializer:
    """pandas DataFrames, Series, Indexes and arrays, with all their attributes."""

    safe = True

    def __init__(self, form: Form) -> None:
        self.name = f"{form}/pandas"
        self.suffix = f".{form}"

    def can(self, value: Any) -> bool:
        return self.prepare(value) is not None

    def prepare(self, value: Any) -> EncodedTable | None:
        """Encode the value. Returns None if this format cannot store it without loss."""
        if type(value).__module__.partition(".")[0] != "pandas" or "pandas" not in sys.modules:
            return None
        from penstock.storage.formats.pandas import tables as pandas_tables

        if not pandas_tables.is_known(value):
            return None
        try:
            table = pandas_tables.encode_value(value)
        except Unkept as unkept:
            if self.suffix == ".arrow":  # tried last
                _warn(value, f"{unkept.where or 'it'} is a {type_name(unkept.leaf)} ({unkept.because or 'an object'})")
            return None
        if self.suffix == ".parquet" and pandas_tables.lost_by_parquet(table):
            return None
        about = About(type=type(value).__name__, rows=len(value), columns=columns_of(table.schema))
        return EncodedTable(self.name, self.suffix, table, about)

    def write(self, value: Any, file: BinaryIO) -> About:
        prepared = self.prepare(value)
        if prepared is None:
            raise SerializationError(f"{self.name!r} cannot store this {type_name(value)} without loss")
        return prepared.write(value, file)

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        from penstock.storage.formats.pandas import tables as pandas_tables

        table = (
            read_parquet(data, limit, believed=is_believed())
            if self.suffix == ".parquet"
            else read_arrow(data, limit, believed=is_believed())
        )
        return pandas_tables.decode_value(table, about)


class PolarsSerializer:
    """polars DataFrames and Series. A LazyFrame is refused: it is a plan, and the files it reads may change."""

    safe = True

    def __init__(self, form: Form) -> None:
        self.name = f"{form}/polars"
        self.suffix = f".{form}"

    def can(self, value: Any) -> bool:
        polars = sys.modules.get("polars")
        if polars is None or type(value).__module__.partition(".")[0] != "polars":
            return False
        if isinstance(value, polars.LazyFrame):
            raise SerializationError(
                "a polars LazyFrame cannot be stored",
                because="it is a plan, not a value",
                hint="return frame.collect()",
            )
        if type(value) not in (polars.DataFrame, polars.Series):
            return False
        from penstock.storage.formats import polars_files

        kept = polars_files.keeps(value, self.suffix)
        if not kept and self.suffix == ".arrow":
            _warn(value, "it contains objects that no format of polars supports")
        return kept

    def write(self, value: Any, file: BinaryIO) -> About:
        from penstock.storage.formats import polars_files

        return polars_files.write(value, file, self.suffix)

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        from penstock.storage.formats import polars_files

        return polars_files.read(data, about, self.suffix, limit)


def _warn(value: Any, why: str) -> None:
    warnings.warn(f"a {type_name(value)} is stored as a pickle: {why}", SerializerFallback, stacklevel=4)


def is_arrow_table(value: Any) -> bool:
    """Return whether a value is a Table or RecordBatch, not an instance of a user's subclass."""
    kind = type(value)
    return kind.__module__.partition(".")[0] == "pyarrow" and kind.__name__ in ("Table", "RecordBatch")
