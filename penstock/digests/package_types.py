"""Tables that say how types of other packages are digested.

Loaded with the first value of one of these packages (see columns), since most runs have none.
"""

from __future__ import annotations

from typing import Any

from penstock.digests import (
    arrow,
    dask_collections,
    frames,
    polars,
    randomness,
    zones,
)
from penstock.digests import (
    numpy as arrays,
)
from penstock.digests.arrow_types.types import type_digest
from penstock.digests.walk import Branch, Walk, hash_leaf, hash_node, hash_str, hash_type


def _address(value: Any, _: Walk) -> bytes:
    return hash_node(b"ipaddress", (hash_type(type(value)), hash_str(str(value))))


TABLES: dict[str, dict[str, Branch]] = {
    "numpy": {
        "numpy.generic": arrays.scalar,
        "numpy.ndarray": arrays.ndarray,
        "numpy.memmap": arrays.ndarray,
        "numpy.MaskedArray": arrays.masked,
        "numpy.dtype": arrays.dtype_object,
        "numpy.ufunc": arrays.ufunc,
        "numpy._ArrayFunctionDispatcher": arrays.function,
        "numpy.BitGenerator": randomness.bit_generator,
        "numpy.Generator": randomness.generator,
        "numpy.RandomState": randomness.random_state,
        "numpy.SeedSequence": randomness.seed_sequence,
    },
    "dask": {
        "dask.DaskMethodsMixin": dask_collections.collection,
        "dask.methodcaller": lambda value, walk: hash_node(b"dask.method", (walk.of(value.method),)),
    },
    "toolz": {
        "toolz.curry": lambda value, walk: hash_node(b"curry", (walk.at("._partial", value._partial),)),
        "toolz.Compose": lambda value, walk: hash_node(b"compose", (walk.of([value.first, *value.funcs]),)),
    },
    "ray": {"ray.Dataset": dask_collections.ray_dataset},
    "scipy": {"scipy._spbase": arrays.sparse_array, "scipy.spmatrix": arrays.sparse_array},
    "pytz": {"pytz.BaseTzInfo": zones.pytz_zone, "pytz._FixedOffset": zones.pytz_zone},
    "random": {"random.Random": randomness.python},
    "ipaddress": {
        "ipaddress.IPv4Address": _address,
        "ipaddress.IPv6Address": _address,
        "ipaddress.IPv4Interface": _address,
        "ipaddress.IPv6Interface": _address,
        "ipaddress.IPv4Network": _address,
        "ipaddress.IPv6Network": _address,
    },
    "pyarrow": {
        "pyarrow.Table": arrow.table_digest,
        "pyarrow.RecordBatch": arrow.table_digest,
        "pyarrow.ChunkedArray": arrow.chunked_digest,
        "pyarrow.Array": arrow.array_digest,
        "pyarrow.Scalar": arrow.scalar_digest,
        "pyarrow.Schema": arrow.schema_digest,
        "pyarrow.Field": arrow.field_digest,
        "pyarrow.DataType": lambda value, walk: hash_node(b"arrow.datatype", (type_digest(value, walk),)),
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
        "polars.DataFrame": polars.frame,
        "polars.Series": polars.series,
        "polars.DataType": polars.dtype,
        "polars.Expr": polars.expression,
    },
}
