"""Splitting values of numpy, pandas, polars and pyarrow for comparison (sameness)."""

from __future__ import annotations

from typing import Any

from penstock.storage.formats.dtypes import layout_of

Inside = list[tuple[str, Any]]


def apart_of_package(value: Any) -> tuple[Any, Inside] | None:
    """Return the face and parts of a value of these packages, or None for other values."""
    package = type(value).__module__.partition(".")[0]
    found = _PACKAGES.get(package)
    return None if found is None else found(value)


def _numpy(value: Any) -> tuple[Any, Inside] | None:
    import numpy as np

    if isinstance(value, np.void) and value.dtype.names:
        return _dtype_face(value.dtype), _fields(value)
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        # The bytes of a longdouble contain padding with undefined content.
        return (_dtype_face(value.dtype), repr(value) if value.dtype.char in "gG" else value.tobytes()), []
    if not isinstance(value, np.ndarray):
        return None
    face = (_dtype_face(value.dtype), value.shape, value.flags.f_contiguous)
    if value.dtype.names:
        return face, _fields(value)
    if value.dtype.char in "gG":
        return face, [(f"[{i}]", item) for i, item in enumerate(value.ravel(order="K"))]
    if value.dtype.hasobject or value.dtype.kind == "T":
        return face, [(f"[{i}]", item) for i, item in enumerate(value.ravel(order="K").tolist())]
    return (*face, value.tobytes()), []


def _fields(value: Any) -> Inside:
    return [(f"[{name!r}]", value[name]) for name in value.dtype.names]  # the bytes between fields are undefined


def _dtype_face(dtype: Any) -> Any:
    return str(dtype) if dtype.kind == "T" else layout_of(dtype)  # numpy finds aligned and packed structs equal


def _pandas(value: Any) -> tuple[Any, Inside] | None:
    import pandas as pd

    name = type(value).__name__
    if name == "Timestamp":
        return (value.tz_localize(None).isoformat(), value.unit, value.fold), [(".tz", value.tz)]
    if name == "Timedelta":
        return (int(value.asm8.astype("int64")), value.unit), []
    if name == "Interval":
        return value.closed, [(".left", value.left), (".right", value.right)]
    if name == "Period":
        return (value.ordinal, value.freqstr), []
    if name in ("NaTType", "NAType"):
        return name, []
    if isinstance(value, pd.DataFrame):
        columns = [(f".iloc[:, {i}]", value.iloc[:, i]) for i in range(value.shape[1])]
        return value.shape, [(".index", value.index), (".columns", value.columns), (".attrs", value.attrs), *columns]
    if isinstance(value, pd.Series):
        held = [(".name", value.name), (".index", value.index), (".attrs", value.attrs), (".array", value.array)]
        return str(value.dtype), held
    if isinstance(value, pd.Index):
        return _index(value)
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return _extension_array(value)
    return None


def _index(value: Any) -> tuple[Any, Inside]:
    import numpy as np
    import pandas as pd

    names: Inside = [(".names", list(value.names))]
    if isinstance(value, pd.MultiIndex):
        # Not `get_level_values`, which converts levels whose dtype cannot hold missing labels.
        levels: Inside = [(f".levels[{i}]", level) for i, level in enumerate(value.levels)]
        codes: Inside = [(f".codes[{i}]", np.asarray(each, "i8").tobytes()) for i, each in enumerate(value.codes)]
        return len(value), [*names, *levels, *codes]
    if isinstance(value, pd.RangeIndex):
        return (value.start, value.stop, value.step), names
    return (str(value.dtype), str(getattr(value, "freqstr", None))), [*names, (".array", value.array)]


def _extension_array(value: Any) -> tuple[Any, Inside]:
    import numpy as np
    import pandas as pd

    face = (str(value.dtype), len(value))
    if isinstance(value, pd.Categorical):
        return (*face, value.ordered), [(".categories", value.categories), (".codes", np.asarray(value.codes))]
    if type(value).__name__ == "NumpyExtensionArray":
        return face, [("", value.to_numpy())]
    if isinstance(value, pd.arrays.IntervalArray):
        return (*face, value.closed), [(".left", value.left), (".right", value.right)]
    return face, [("", list(value))]


def _polars(value: Any) -> tuple[Any, Inside] | None:
    import polars as pl

    if isinstance(value, pl.DataFrame):
        return value.shape, [(f"[{column.name!r}]", column) for column in value.get_columns()]
    if isinstance(value, pl.Series):
        return (value.name, str(value.dtype), len(value)), [("", value.to_list())]
    return None


def _arrow_face(kind: Any) -> bytes:
    """Return all of a type, with the parameters of extensions and metadata of nested fields, which its name omits."""
    import pyarrow as pa

    return bytes(pa.schema([pa.field("", kind)]).serialize())


def _arrow(value: Any) -> tuple[Any, Inside] | None:
    import pyarrow as pa

    if isinstance(value, pa.Table | pa.RecordBatch):
        metadata = [(field.name, _arrow_face(field.type), field.nullable, field.metadata) for field in value.schema]
        columns = [(f"[{i}]", column.to_pylist()) for i, column in enumerate(value.columns)]
        return (value.num_rows, metadata, value.schema.metadata), columns
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return _arrow_face(value.type), [("", value.to_pylist())]
    if isinstance(value, pa.Scalar):
        return _arrow_face(value.type), [("", value.as_py())]
    return None


_PACKAGES = {"numpy": _numpy, "pandas": _pandas, "polars": _polars, "pyarrow": _arrow}
