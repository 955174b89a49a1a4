"""Dask DataFrames and Series in parts: partitions are written and read by the workers that compute them.

Only names, sizes and checksums of what was written are gathered. In a Dask task the partitions are computed by the
task's own cluster; the task gives up its place at the worker meanwhile, so that one place is enough for both.
"""

from __future__ import annotations

import base64
import functools
import sys
from collections.abc import Sequence
from typing import Any

import dask.dataframe as dd
import pandas as pd
import pyarrow as pa
from dask.base import compute
from dask.dataframe.utils import clear_known_categories
from dask.delayed import delayed

from penstock.errors import SerializationError
from penstock.imported import loaded
from penstock.storage.formats.arrow.parquet import through_parquet
from penstock.storage.formats.arrow.parquet_reading import read_parquet
from penstock.storage.formats.parts.manifests import Manifest, PartSink, StoredParts, Written
from penstock.storage.formats.parts.scanning import dataset_of
from penstock.storage.formats.verified_files import StoredFile
from penstock.storage.records.records import About

# Dask's own annotations are incomplete for mypy.
_any_categories: Any = clear_known_categories
_compute: Any = compute
_delayed: Any = delayed
_from_map: Any = dd.from_map

_VALUES = "values"
"""The column of a Series without a name."""
_DIVISIONS = "divisions"
_TEXT = "text"
"""How pandas 2 stores text columns, which Arrow does not record."""
_NAME = "name"


def write_parts(value: Any, sink: PartSink) -> tuple[Manifest, str]:
    """Write each partition as a part. Return the manifest, and `DataFrame` or `Series`."""
    details = {}
    if isinstance(value, dd.Series):
        kind, name = "Series", value.name
        if name is not None:
            details[_NAME] = name
        frame = value.to_frame(_VALUES if name is None else name)
    else:
        kind, frame = "DataFrame", value
    text = _text_storage(frame._meta)
    if text:
        details[_TEXT] = text
    schema = _schema_of(frame, text)
    if frame.known_divisions:
        details[_DIVISIONS] = _written_divisions(frame.divisions)
    write = _delayed(_write_partition, pure=False)
    pieces = [write(piece, schema, sink, number) for number, piece in enumerate(frame.to_delayed())]
    manifest = sink.manifest(_computed(pieces), details, schema)
    sink.discard(kept=manifest)  # parts of workers that died after writing them
    return manifest, kind


def read_parts(parts: StoredParts, about: About) -> Any:
    """Return the collection, with a partition for each part."""
    details, schema = parts.manifest.details, parts.manifest.arrow_schema()
    text = details.get(_TEXT, "")
    meta = _any_categories(_to_pandas(schema.empty_table(), text))
    divisions = _read_divisions(details[_DIVISIONS]) if _DIVISIONS in details else None
    frame = _from_map(
        functools.partial(_read_partition, text=text) if text else _read_partition,
        list(parts.files),
        meta=meta,
        divisions=divisions,
        label="penstock",
        enforce_metadata=False,
    )
    if about.type != "Series":
        return frame
    series = frame[frame.columns[0]]
    return series if _NAME in details else series.rename(None)


def _text_storage(meta: Any) -> str:
    """Return the storage, `pyarrow` or `python`, of all nullable text columns; empty if there are none."""
    dtypes = [*meta.dtypes, meta.index.dtype]
    found = {dtype.storage for dtype in dtypes if isinstance(dtype, pd.StringDtype) and dtype.na_value is pd.NA}
    return found.pop() if len(found) == 1 else ""


def _to_pandas(table: Any, text: str) -> Any:
    """Convert a table to a frame, with the original storage of text."""
    frame = table.to_pandas()
    if not text:
        return frame
    wanted = pd.StringDtype(text)
    for name, dtype in frame.dtypes.items():
        if dtype != wanted and isinstance(dtype, pd.StringDtype) and dtype.na_value is pd.NA:
            frame[name] = frame[name].astype(wanted)
    if isinstance(frame.index.dtype, pd.StringDtype) and frame.index.dtype.na_value is pd.NA:
        frame.index = frame.index.astype(wanted)
    return frame


def _schema_of(frame: Any, text: str) -> Any:
    """Return one schema for all partitions, since that of a single partition depends on its values."""
    example = frame._meta_nonempty
    if any(type(name) is not str for name in example.columns):
        raise _refused("column names that are not strings")
    try:
        schema = _with_room(pa.Schema.from_pandas(example, preserve_index=True))
        table = through_parquet(pa.Table.from_pandas(example, schema=schema, preserve_index=True))
        lost = _difference(example, _to_pandas(table, text))
    except (pa.ArrowException, NotImplementedError, TypeError, ValueError, KeyError) as error:
        lost = " ".join(str(error).split())
    if lost:
        raise _refused(lost)
    return table.schema


def _refused(lost: str) -> SerializationError:
    return SerializationError(
        "a Dask DataFrame cannot be stored",
        because=f"Parquet would lose {lost}",
        hint="use column names and types that Parquet supports, or return the computed frame",
    )


def _with_room(schema: Any) -> Any:
    """Return a schema in which each partition may have any number of categories."""
    for number, field in enumerate(schema):
        if pa.types.is_dictionary(field.type):
            values = pa.string() if pa.types.is_large_string(field.type.value_type) else field.type.value_type
            schema = schema.set(number, field.with_type(pa.dictionary(pa.int32(), values, field.type.ordered)))
    return schema


def _difference(before: Any, after: Any) -> str:
    """Describe the types or names that would be lost; empty if none. The categories themselves do not count."""
    if not before.columns.equals(after.columns) or before.index.names != after.index.names:
        return "names of columns or of the index"
    if before.index.dtype != after.index.dtype:
        return f"the type of the index ({before.index.dtype} would become {after.index.dtype})"
    before, after = _any_categories(before), _any_categories(after)
    for one, other in zip(before.dtypes.items(), after.dtypes.items(), strict=True):
        if one[1] != other[1]:
            return f"the type of column {one[0]!r} ({one[1]} would become {other[1]})"
    return ""


def _write_partition(frame: Any, schema: Any, sink: PartSink, number: int) -> Written:
    try:
        table = pa.Table.from_pandas(frame, schema=schema, preserve_index=True)
    except (pa.ArrowException, TypeError, ValueError, KeyError) as error:
        raise SerializationError(
            f"partition {number} of a Dask DataFrame cannot be stored",
            because=f"its columns differ from the metadata of the frame: {error}",
            hint="pass the correct meta= where the frame is created",
        ) from error
    return sink.write(number, table)


def _read_partition(file: StoredFile, columns: Sequence[str] | None = None, *, text: str = "") -> Any:
    """Read a partition: verified as a whole, or page by page if only some columns are requested."""
    if columns is None:
        return _to_pandas(read_parquet(file.contents(), sys.maxsize), text)
    dataset = dataset_of([file], "parquet")
    try:
        return _read_columns(dataset, columns, text)
    except (OSError, pa.ArrowException):
        file.verify()  # raises DamagedResult if the bytes are the cause
        raise


def _read_columns(dataset: Any, columns: Sequence[str], text: str) -> Any:
    # pandas stores an index in separate columns.
    names = set(dataset.schema.names)
    index = [name for name in (dataset.schema.pandas_metadata or {}).get("index_columns", ()) if name in names]
    wanted = [name for name in columns if name not in index]
    return _to_pandas(dataset.to_table(columns=[*wanted, *index]), text)[list(columns)]


def _computed(pieces: Sequence[Any]) -> Sequence[Written]:
    distributed = loaded("distributed")
    if distributed is None or not _in_dask_task(distributed):
        written: Sequence[Written] = _compute(*pieces)
        return written
    with distributed.worker_client() as client:  # secedes, and rejoins at its end
        return list(client.gather(client.compute(list(pieces))))


def _in_dask_task(distributed: Any) -> bool:
    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True


def _written_divisions(divisions: Sequence[Any]) -> str:
    """Encode divisions, which may have any type of an index, as an Arrow column in base 64."""
    table = pa.Table.from_pandas(pd.DataFrame({_DIVISIONS: pd.Series(list(divisions))}), preserve_index=False)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return base64.b64encode(sink.getvalue().to_pybytes()).decode("ascii")


def _read_divisions(text: str) -> tuple[Any, ...]:
    column = pa.ipc.open_stream(base64.b64decode(text)).read_all().to_pandas()[_DIVISIONS]
    return tuple(column.tolist())
