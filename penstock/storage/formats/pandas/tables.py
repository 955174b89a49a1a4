"""pandas values as Arrow tables, with everything else about them in the metadata of the schema.

Columns and index levels are columns of the table, under their own names if possible, so that any program can read them.
Penstock reads the description under the key `penstock`, which does not depend on the version of pandas or on types
registered with pyarrow.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa

import penstock.storage.formats.pandas.categories  # noqa: F401 (registers its encoders)
from penstock.errors import SerializationError, StoreVersionError
from penstock.storage.formats.arrow.parquet import lost_of_table
from penstock.storage.formats.pandas.arrays import decode_array, encode_array
from penstock.storage.formats.pandas.labels import (
    as_arrow,
    decode_labels,
    decode_rows,
    encode_labels,
    encode_rows,
    is_of_version_2,
)
from penstock.storage.formats.typed.json import Unkept
from penstock.storage.formats.typed.nodes import from_node, to_node
from penstock.storage.records.records import About

METADATA = b"penstock"
"""The key of the description in a schema's metadata."""
MAX_DESCRIPTION = 16 << 20
"""The most bytes of a description in the footer of a Parquet file, which every reader reads completely."""
_VERSION = 2
_VALUES = "values"
"""The column of a Series without a name."""


def is_known(value: Any) -> bool:
    """Return whether a value is of one of pandas' own classes, not of a subclass."""
    kind = type(value)
    if kind in (pd.DataFrame, pd.Series):
        return True
    own = kind.__module__.partition(".")[0] == "pandas" and isinstance(
        value, (pd.Index, pd.api.extensions.ExtensionArray)
    )
    return own and len(value.shape) == 1


def lost_by_parquet(table: Any) -> str:
    """Describe what Parquet would lose of a table that `encode_value` returned; empty if nothing."""
    description = table.schema.metadata[METADATA]
    if len(description) > MAX_DESCRIPTION:
        return "a part of the labels, which are too large for a footer"
    return lost_of_table(table) if b'["arrow"]' in description else ""


def encode_value(value: Any) -> Any:
    """Return the Arrow table of a pandas DataFrame, Series, Index or array. Raises `Unkept`, and pyarrow's errors."""
    if isinstance(value, pd.DataFrame):
        return _encode_frame(value, {"kind": "DataFrame"})
    if isinstance(value, pd.Series):
        name = value.name if type(value.name) is str else _VALUES
        frame = value.to_frame(name)
        frame.attrs, frame.flags.allows_duplicate_labels = value.attrs, value.flags.allows_duplicate_labels
        return _encode_frame(frame, {"kind": "Series", "name": to_node(value.name)})
    if isinstance(value, pd.Index):
        return _encode_frame(pd.DataFrame(index=value), {"kind": "Index"})
    return _encode_frame(pd.DataFrame({_VALUES: value}, copy=False), {"kind": "array"})


def decode_value(table: Any, stored: About) -> Any:
    """Restore a value from a table that this or an earlier version wrote. Raises any exception if that fails."""
    if METADATA not in (table.schema.metadata or {}):
        return _decode_earlier(table, stored)
    about = _description(table.schema.metadata[METADATA])
    kinds = about["columns"]
    if table.num_columns < len(kinds) or (table.num_columns and len(table) != about["rows"]):
        raise SerializationError(
            "a stored pandas table cannot be read", because="its description belongs to another table"
        )
    index = decode_rows(table.columns[len(kinds) :], about["index"])
    if about["kind"] == "Index":
        return index
    arrays = [decode_array(column, kind) for column, kind in zip(table.columns, kinds, strict=False)]
    if about["kind"] == "array":
        return arrays[0]
    # With the dtype, since pandas 3 would infer text from an array of objects that are all strings.
    columns = [pd.Series(array, index=index, dtype=array.dtype, copy=False) for array in arrays]
    if about["kind"] == "Series":
        made: Any = columns[0]
        made.name = from_node(about["name"])
    else:
        made = pd.DataFrame(dict(enumerate(columns)), index=index)
        made.columns = decode_labels(about["labels"])
    if "attrs" in about:
        made.attrs = from_node(about["attrs"])
    if "unique" in about:
        made.flags.allows_duplicate_labels = False
    return made


def _encode_frame(frame: Any, about: dict[str, Any]) -> Any:
    arrays, kinds = [], []
    for number, label in enumerate(frame.columns):
        column = frame.iloc[:, number]
        try:
            array, kind = encode_array(column)
        except Unkept as unkept:
            raise Unkept(unkept.leaf, f"[{label!r}]{unkept.where}", unkept.because) from None
        arrays.append(as_arrow(column) if array is None else array)
        kinds.append(kind)
    levels, rows = encode_rows(frame.index)
    version = 2 if is_of_version_2(rows) else 1  # earlier versions of Penstock can read most tables
    about |= {"v": version, "pandas": pd.__version__, "rows": len(frame), "columns": kinds, "index": rows}
    about["labels"] = encode_labels(frame.columns)
    if frame.attrs:
        about["attrs"] = to_node(dict(frame.attrs))
    if not frame.flags.allows_duplicate_labels:
        about["unique"] = True
    names, metadata = _names(frame, len(levels))
    table = pa.table([*arrays, *levels], names=names)
    return table.replace_schema_metadata({**metadata, METADATA: msgspec.json.encode(about)})


def _names(frame: Any, levels: int) -> tuple[list[str], dict[bytes, bytes]]:
    """Return names for the columns of the table, and the metadata for pandas and other programs."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about names that are converted to text, for other programs only
            schema = pa.Schema.from_pandas(frame.iloc[:0])
            about = json.loads(schema.metadata[b"pandas"])
    except (pa.ArrowException, ValueError, TypeError, KeyError, NotImplementedError, AttributeError):
        schema = None  # duplicate labels, or types that pyarrow does not support
    if schema is not None and len(schema) == frame.shape[1] + levels and len(set(schema.names)) == len(schema):
        if not levels:
            about["index_columns"][0] |= {
                "start": frame.index.start,
                "stop": frame.index.stop,
                "step": frame.index.step,
            }
        return schema.names, {b"pandas": json.dumps(about).encode()}
    names: dict[str, None] = {}
    for label in [*frame.columns, *(f"__index_level_{n}__" for n in range(levels))]:
        name = _text_of(label)
        number = 1
        while name in names:
            name, number = f"{_text_of(label)}.{number}", number + 1
        names[name] = None
    return list(names), {}


def _text_of(label: Any) -> str:
    try:
        return str(label).encode("utf-8", "backslashreplace").decode()
    except Exception:  # noqa: BLE001  # a user's __str__ may raise anything
        return type(label).__qualname__


def _decode_earlier(table: Any, stored: About) -> Any:
    """Restore a table without a description, which earlier versions wrote, by pandas' own metadata."""
    details = stored.details
    frame = table.to_pandas()
    if "freq" in details:
        frame.index.freq = details["freq"]
    if "columns" in details:
        frame.columns = pd.RangeIndex(*map(int, details["columns"].split(":")), name=frame.columns.name)
    if stored.type != "Series":
        return frame
    series = frame.iloc[:, 0]
    series.name = details.get("name")
    return series


def _description(data: bytes) -> dict[str, Any]:
    about: dict[str, Any] = msgspec.json.decode(data)
    if about["v"] > _VERSION:
        raise StoreVersionError(
            f"a stored pandas table has version {about['v']}",
            because=f"this Penstock reads versions up to {_VERSION}",
            hint="upgrade Penstock on this machine",
            found=about["v"],
            known=_VERSION,
        )
    if int(about["pandas"].partition(".")[0]) < 3 <= int(pd.__version__.partition(".")[0]):
        about |= {part: _with_text(about[part]) for part in ("columns", "index", "labels")}
    return about


def _with_text(node: Any) -> Any:
    """Replace pandas 2's type of text (objects) by that of pandas 3, which the task would produce here."""
    if isinstance(node, dict):
        own = ("name", "names", "values")
        return {key: item if key in own else _with_text(item) for key, item in node.items()}
    if not isinstance(node, list):
        return node
    return ["text", "pyarrow", "nan"] if node in _OBJECT_TEXT else [_with_text(item) for item in node]


_OBJECT_TEXT = (["object", "str", "None"], ["object", "str", "nan"])
