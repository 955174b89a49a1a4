"""Tables as Parquet: pyarrow, pandas, polars, and streams of record batches written with bounded memory.

Parquet does not keep everything. What a value would lose is found out before it is written, from its schema and, for
the few kinds of pandas columns where the schema does not tell, from a trial of those columns alone. Such a value is
then pickled, with a `SerializerFallback` warning that says why.
"""

from __future__ import annotations

import io
import math
import sys
import warnings
from typing import Any, BinaryIO

from penstock.errors import SerializationError
from penstock.storage.batches import is_reader, is_stream
from penstock.storage.parquet import (
    check_expanded,
    columns_of,
    lost_of_schema,
    read_parquet,
    through_parquet,
    write_parquet,
    write_stream,
)
from penstock.storage.records import About
from penstock.storage.serializers import SerializerFallback

_VALUES = "values"
"""The column of a Series without a name."""


class ArrowSerializer:
    """pyarrow Tables and RecordBatches; a RecordBatchReader or generator of batches is written as it comes."""

    name = "parquet/arrow"
    suffix = ".parquet"
    safe = True

    def can(self, value: Any) -> bool:
        if is_reader(value) or is_stream(value):
            return True
        if _module(value) != "pyarrow":
            return False
        arrow = sys.modules["pyarrow"]
        if type(value) not in (arrow.Table, arrow.RecordBatch):
            return False
        lost = lost_of_schema(value.schema)
        return not lost or _fall_back(value, lost)

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
        table = read_parquet(data, limit)
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
        table, more = pandas_to_arrow(frame)
        write_parquet(table, file)
        return About(type=kind, rows=len(frame), columns=columns_of(table.schema), details=details | more)

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        frame = _pandas_from_arrow(read_parquet(data, limit), about.details)
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

        check_expanded(data, limit)
        frame = pl.read_parquet(io.BytesIO(data))
        return frame.to_series() if about.type == "Series" else frame


def pandas_to_arrow(frame: Any) -> tuple[Any, dict[str, str]]:
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

    table, details = pandas_to_arrow(before)
    after = _pandas_from_arrow(through_parquet(table), details)
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


def _module(value: Any) -> str:
    return type(value).__module__.partition(".")[0]
