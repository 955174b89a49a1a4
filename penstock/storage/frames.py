"""Tables as Parquet: pyarrow, pandas, polars, and streams of record batches written with bounded memory.

Parquet does not keep everything. What a value would lose is found out before it is written, from its schema and, for
the few kinds of pandas columns where the schema does not tell, from a trial of those columns alone. Such a value is
then pickled, with a `SerializerFallback` warning that says why.
"""

from __future__ import annotations

import io
import itertools
import math
import sys
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

from penstock.errors import SerializationError
from penstock.storage.records import About
from penstock.storage.serializers import SerializerFallback, type_name

# Parquet's own name for the items of a list is not Arrow's: keep the one that the value has.
_OPTIONS: dict[str, Any] = {"compression": "zstd", "use_compliant_nested_type": False}
_VALUES = "values"
"""The column of a Series without a name."""


class ArrowSerializer:
    """pyarrow Tables and RecordBatches; a RecordBatchReader or generator of batches is written as it comes."""

    name = "parquet/arrow"
    suffix = ".parquet"
    safe = True

    def can(self, value: Any) -> bool:
        if _is_reader(value) or _is_stream(value):
            return True
        if _module(value) != "pyarrow":
            return False
        arrow = sys.modules["pyarrow"]
        if type(value) not in (arrow.Table, arrow.RecordBatch):
            return False
        lost = _lost_of_schema(value.schema)
        return not lost or _fall_back(value, lost)

    def write(self, value: Any, file: BinaryIO) -> About:
        import pyarrow as pa

        if isinstance(value, pa.Table):
            _write_parquet(value, file)
            return About(type="Table", rows=value.num_rows, columns=_columns(value.schema))
        if isinstance(value, pa.RecordBatch):
            _write_parquet(pa.Table.from_batches([value]), file)
            return About(type="RecordBatch", rows=value.num_rows, columns=_columns(value.schema))
        return _write_stream(value, file)

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        table = _read_parquet(data, limit)
        if about.type != "RecordBatch":
            return table
        import pyarrow as pa

        columns = [column.combine_chunks() for column in table.columns]
        return pa.RecordBatch.from_arrays(columns, schema=table.schema)


class PandasSerializer:
    """pandas DataFrames and Series with their index, dtypes, names and attrs."""

    name = "parquet/pandas"
    suffix = ".parquet"
    safe = True

    def can(self, value: Any) -> bool:
        if _module(value) != "pandas":
            return False
        pandas = sys.modules["pandas"]
        if type(value) is pandas.DataFrame:
            frame = value
        elif type(value) is pandas.Series and (value.name is None or type(value.name) is str):
            frame = value.to_frame(_VALUES if value.name is None else value.name)
        else:
            return False
        lost = _lost_of_pandas(frame)
        return not lost or _fall_back(value, lost)

    def write(self, value: Any, file: BinaryIO) -> About:
        import pandas as pd

        kind, frame, details = "DataFrame", value, {}
        if isinstance(value, pd.Series):
            kind, frame = "Series", value.to_frame(_VALUES if value.name is None else value.name)
            details = {} if value.name is None else {"name": value.name}
        table, more = _pandas_to_arrow(frame)
        _write_parquet(table, file)
        return About(type=kind, rows=len(frame), columns=_columns(table.schema), details=details | more)

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        frame = _pandas_from_arrow(_read_parquet(data, limit), about.details)
        if about.type != "Series":
            return frame
        series = frame.iloc[:, 0]
        series.name = about.details.get("name")
        return series


class PolarsSerializer:
    """polars DataFrames and Series. A LazyFrame is refused: it is a plan, and its files may change under it."""

    name = "parquet/polars"
    suffix = ".parquet"
    safe = True

    def can(self, value: Any) -> bool:
        if _module(value) != "polars":
            return False
        polars = sys.modules["polars"]
        if isinstance(value, polars.LazyFrame):
            raise SerializationError(
                "a polars LazyFrame cannot be stored",
                because="it is a plan, not a value",
                hint="return frame.collect()",
            )
        if type(value) not in (polars.DataFrame, polars.Series):
            return False
        frame = value.to_frame() if isinstance(value, polars.Series) else value
        lost = _lost_of_polars(frame)
        return not lost or _fall_back(value, lost)

    def write(self, value: Any, file: BinaryIO) -> About:
        import polars as pl

        frame = value.to_frame() if isinstance(value, pl.Series) else value
        frame.write_parquet(file, compression="zstd")
        columns = {name: str(kind) for name, kind in frame.schema.items()}
        return About(type=type(value).__name__, rows=len(frame), columns=columns)

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        import polars as pl

        _check_expanded(data, limit)
        frame = pl.read_parquet(io.BytesIO(data))
        return frame.to_series() if about.type == "Series" else frame


# -- Parquet


def _write_parquet(table: Any, file: BinaryIO) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, file, **_OPTIONS)


def _write_stream(batches: Any, file: BinaryIO) -> About:
    """One Parquet file, a row group for each batch, whatever the whole is large."""
    import pyarrow.parquet as pq

    if _is_reader(batches):
        schema = batches.schema
    else:
        first = next(batches, None)
        if first is None:
            raise SerializationError(
                "an empty stream cannot be stored",
                because="nothing says which columns it has",
                hint="yield one empty batch, or return a list",
            )
        schema, batches = _batch(first).schema, itertools.chain([first], batches)
    lost, rows = _lost_of_schema(schema), 0
    if lost:
        raise SerializationError(
            "a stream of record batches cannot be stored",
            because=f"Parquet would lose {lost}",
        )
    with pq.ParquetWriter(file, schema, **_OPTIONS) as writer:
        for batch in batches:
            writer.write(_batch(batch))
            rows += batch.num_rows
    return About(type="Table", rows=rows, columns=_columns(schema))


def _batch(value: Any) -> Any:
    import pyarrow as pa

    if not isinstance(value, (pa.RecordBatch, pa.Table)):
        raise SerializationError(
            f"an iterator of {type_name(value)} cannot be stored",
            because="only iterators of record batches are, as one table",
            hint="return a list",
        )
    return value


def _read_parquet(data: memoryview, limit: int) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    _check_expanded(data, limit)
    return pq.read_table(pa.BufferReader(pa.py_buffer(data)))


def _check_expanded(data: memoryview, limit: int) -> None:
    """Refuse a file whose own metadata says that it unpacks to more than `limit` bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    footer = pq.read_metadata(pa.BufferReader(pa.py_buffer(data)))
    expanded = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    if expanded > limit:
        raise SerializationError(
            f"a table of {expanded} bytes is too large to load",
            because=f"the limit is {limit}",
        )


def _pandas_to_arrow(frame: Any) -> tuple[Any, dict[str, str]]:
    """The table of a frame, and what a table does not say of it."""
    import pandas as pd
    import pyarrow as pa

    details = {}
    if isinstance(frame.index, (pd.DatetimeIndex, pd.TimedeltaIndex)) and frame.index.freqstr is not None:
        details["freq"] = frame.index.freqstr
    if isinstance(frame.columns, pd.RangeIndex):
        details["columns"] = f"{frame.columns.start}:{frame.columns.stop}:{frame.columns.step}"
    return pa.Table.from_pandas(frame), details


def _pandas_from_arrow(table: Any, details: dict[str, str]) -> Any:
    import pandas as pd

    frame = table.to_pandas()
    if "freq" in details:
        frame.index.freq = details["freq"]
    if "columns" in details:
        frame.columns = pd.RangeIndex(*map(int, details["columns"].split(":")), name=frame.columns.name)
    return frame


# -- what would be lost


def _lost_of_schema(schema: Any) -> str:
    """What Parquet does not keep of an Arrow schema, in words; empty if it keeps all."""
    import pyarrow as pa

    try:
        back = _through_parquet(schema.empty_table()).schema
    except (pa.ArrowException, NotImplementedError, TypeError) as error:
        return str(error)
    if len(back) != len(schema):
        return "columns"
    for before, after in zip(schema, back, strict=True):
        if not before.equals(after, check_metadata=False):
            return f"column {before.name!r} comes back as {after.type}, not {before.type}"
    return "" if (schema.metadata or {}) == (back.metadata or {}) else "the schema's metadata"


def _through_parquet(table: Any) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    _write_parquet(table, sink)

    return pq.read_table(pa.BufferReader(sink.getvalue()))


def _lost_of_pandas(frame: Any) -> str:
    """What Parquet does not keep of a DataFrame, in words; empty if it keeps all."""
    import pandas as pd
    import pyarrow as pa

    if isinstance(frame.columns, pd.MultiIndex):
        return "several levels of columns"
    if not frame.columns.is_unique:
        return "column names that are there twice"
    if frame.columns.dtype == object and any(type(name) is not str for name in frame.columns):
        return "column names that are not strings"
    delicate = [name for name, dtype in frame.dtypes.items() if _is_delicate(dtype)]
    index = frame.index if any(_is_delicate(d) for d in _index_dtypes(frame.index)) else None
    try:
        # Nearly always the schema decides, and an empty frame has it all.
        lost = _difference(frame.iloc[:0])
        if not lost and (delicate or index is not None):
            part = frame[delicate] if index is not None else frame[delicate].reset_index(drop=True)
            lost = _difference(part)
    except (
        pa.ArrowException,
        NotImplementedError,
        TypeError,
        ValueError,
        KeyError,
        OverflowError,
    ) as error:
        return " ".join(str(error).split())
    return lost


def _is_delicate(dtype: Any) -> bool:
    """Whether only the values tell what comes back: objects may be anything, categories may be lost or reordered."""
    return dtype.name in ("object", "category")


def _index_dtypes(index: Any) -> list[Any]:
    return list(index.dtypes) if hasattr(index, "levels") else [index.dtype]


def _difference(before: Any) -> str:
    """How a frame differs from what comes back, in words; empty if in no value, type, name or order."""
    import pandas as pd

    table, details = _pandas_to_arrow(before)
    after = _pandas_from_arrow(_through_parquet(table), details)
    if before.attrs != after.attrs:
        return "attrs"
    try:
        pd.testing.assert_frame_equal(before, after, check_exact=True, check_index_type=True)
        pd.testing.assert_index_equal(before.columns, after.columns, exact=True)
    except AssertionError as error:
        return " ".join(str(error).split())[:200]
    if type(before.index) is not type(after.index):
        return f"a {type(before.index).__name__} comes back as a {type(after.index).__name__}"
    parts = [(before[name], after[name]) for name in before.columns] + [
        (before.index.get_level_values(i), after.index.get_level_values(i)) for i in range(before.index.nlevels)
    ]
    for one, other in parts:
        # Equal is not the same: None and NaN, True and 1, a list and an array compare as equal.
        if one.dtype == object and any(not _same(a, b) for a, b in zip(one, other, strict=True)):
            return f"objects in {one.name!r}"
    return ""


def _same(a: Any, b: Any) -> bool:
    """Whether two objects of a column are of one type and value; containers may hide differences, so they are not."""
    if type(a) is not type(b) or isinstance(a, (list, dict, tuple, set)) or type(a).__module__ == "numpy":
        return False
    return bool(a == b) or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def _lost_of_polars(frame: Any) -> str:
    import polars as pl

    try:
        sink = io.BytesIO()
        frame.clear().write_parquet(sink)
        back = pl.read_parquet(io.BytesIO(sink.getvalue()))
    except BaseException as error:  # its panics are not Exceptions
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return " ".join(str(error).split())[:200]
    for name, kind in frame.schema.items():
        if back.schema.get(name) != kind:
            return f"column {name!r} comes back as {back.schema.get(name)}, not {kind}"
    return ""


def _fall_back(value: Any, lost: str) -> bool:
    warnings.warn(
        f"a {_module(value)} {type(value).__name__} is stored as a pickle: Parquet would lose {lost}",
        SerializerFallback,
        stacklevel=3,
    )
    return False


# -- telling types without importing their packages


def _module(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _is_reader(value: Any) -> bool:
    arrow = sys.modules.get("pyarrow")
    return arrow is not None and isinstance(value, arrow.RecordBatchReader)


def _is_stream(value: Any) -> bool:
    """Generators, maps and the like: they could not be pickled, and only running them tells what they yield."""
    return isinstance(value, Iterator) and type(value).__module__ in (
        "builtins",
        "itertools",
    )


def _columns(schema: Any) -> dict[str, str]:
    return {field.name: str(field.type) for field in schema}
