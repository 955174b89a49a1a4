"""Which array or table type is digested how. Nothing is imported to find out: a value's class names its package."""

from __future__ import annotations

from penstock.graph import arrays, arrow, frames
from penstock.graph.merkle import Branch, hash_leaf, hash_node


def branch_for(cls: type) -> Branch | None:
    """How values of a class of one of these packages are digested; None for all others."""
    package, _, _ = (getattr(cls, "__module__", None) or "").partition(".")
    table = _TABLES.get(package)
    if table is None:
        return None
    for base in cls.__mro__:
        branch = table.get(f"{base.__module__.partition('.')[0]}.{base.__name__}")
        if branch is not None:
            return branch if base is cls or base.__name__ in _OPEN else None
    return None


_OPEN = frozenset({"generic", "dtype", "Array", "Scalar", "DataType", "Index", "ExtensionArray", "ExtensionDtype"})
"""Base classes whose subclasses differ in dtype only; for all others a subclass is not its base."""


_TABLES: dict[str, dict[str, Branch]] = {
    "numpy": {
        "numpy.generic": arrays.scalar,
        "numpy.ndarray": arrays.ndarray,
        "numpy.memmap": arrays.ndarray,
        "numpy.MaskedArray": arrays.masked,
        "numpy.dtype": lambda value, walk: hash_node(b"numpy.dtypeobject", (arrays.dtype_digest(value),)),
        "numpy.ufunc": arrays.ufunc,
        "numpy._ArrayFunctionDispatcher": arrays.function,
    },
    "pyarrow": {
        "pyarrow.Table": arrow.table_digest,
        "pyarrow.RecordBatch": arrow.table_digest,
        "pyarrow.ChunkedArray": arrow.chunked_digest,
        "pyarrow.Array": arrow.array_digest,
        "pyarrow.Scalar": arrow.scalar_digest,
        "pyarrow.Schema": arrow.schema_digest,
        "pyarrow.Field": arrow.field_digest,
        "pyarrow.DataType": lambda value, _: hash_node(b"arrow.datatype", (arrow.type_digest(value),)),
        "pyarrow.Buffer": arrow.buffer_digest,
    },
    "pandas": {
        "pandas.DataFrame": frames.pandas_frame,
        "pandas.Series": frames.pandas_series,
        "pandas.Index": frames.pandas_index,
        "pandas.ExtensionArray": frames.pandas_array,
        "pandas.ExtensionDtype": frames.pandas_dtype,
        "pandas.Timestamp": frames.pandas_time,
        "pandas.Timedelta": frames.pandas_time,
        "pandas.Period": frames.pandas_period,
        "pandas.Interval": frames.pandas_interval,
        "pandas.NAType": lambda _, __: hash_leaf(b"pandas.na", b""),
        "pandas.NaTType": lambda _, __: hash_leaf(b"pandas.nat", b""),
    },
    "polars": {
        "polars.DataFrame": frames.polars_frame,
        "polars.Series": frames.polars_series,
        "polars.DataType": frames.polars_dtype,
    },
}
