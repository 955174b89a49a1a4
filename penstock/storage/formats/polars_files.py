"""polars values in Parquet and Arrow files written by polars.

The original types are stored in the record and compared with those that are read: another version of polars may not
support some of them and return another type, or panic.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from penstock.errors import CodecRefused, SerializationError
from penstock.storage.formats.arrow.parquet_reading import check_unpacked
from penstock.storage.formats.arrow.schemas import check_parquet
from penstock.storage.formats.classes import is_believed
from penstock.storage.records.records import About

_WHOLE_BYTES = 8 << 10
"""Schemas up to this size are stored; larger ones are compared by digest."""
_Made = TypeVar("_Made")


def keeps(value: Any, suffix: str) -> bool:
    """Return whether a file of this kind preserves the types of a frame or series."""
    frame = _frame(value)
    if suffix == ".parquet" and frame.width == 0 and frame.height:
        return False
    try:
        sink = io.BytesIO()
        _calm(lambda: _write(frame.clear(), sink, suffix))
        back = _calm(lambda: _read(io.BytesIO(sink.getvalue()), suffix))
        if suffix == ".parquet":
            check_parquet(memoryview(sink.getvalue()))  # as reading does
            pq.ParquetFile(pa.BufferReader(sink.getvalue()))  # as other programs do
    except (SerializationError, CodecRefused, pl.exceptions.PolarsError, pa.ArrowException, OSError):
        return False
    return bool(back.schema == frame.schema)


def write(value: Any, file: BinaryIO, suffix: str) -> About:
    """Write a frame or series."""
    frame = _frame(value)
    _calm(lambda: _write(frame, file, suffix))
    columns = {name: str(kind) for name, kind in frame.schema.items()}
    details = {**_details(frame), **_order(frame)}
    return About(type=type(value).__name__, rows=len(frame), columns=columns, details=details)


def read(data: memoryview, about: About, suffix: str, limit: int) -> Any:
    """Read a frame or series. Raises `SerializationError` if its types differ from the original ones."""
    if suffix == ".parquet":
        check_unpacked(data, limit, believed=is_believed())
    frame = _ordered(_as_written(_calm(lambda: _read(io.BytesIO(data), suffix)), about.details), about.details)
    if frame.estimated_size() > limit:
        raise SerializationError("a table is too large to load", because=f"the limit is {limit} bytes")
    return frame.to_series() if about.type == "Series" else frame


def _frame(value: Any) -> Any:
    return value.to_frame() if isinstance(value, pl.Series) else value


def _write(frame: Any, file: Any, suffix: str) -> None:
    if suffix == ".parquet":
        frame.write_parquet(file, compression="zstd")
    else:
        frame.write_ipc(file)


def _read(file: io.BytesIO, suffix: str) -> Any:
    return pl.read_parquet(file) if suffix == ".parquet" else pl.read_ipc(file)


def _calm(work: Callable[[], _Made]) -> _Made:
    """Run a function of polars, turning a panic, which is not an Exception, into a `SerializationError`."""
    try:
        return work()
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise SerializationError("polars failed", because=" ".join(str(error).split())[:200]) from error


# -- the types


def _details(frame: Any) -> dict[str, str]:
    schema = msgspec.json.encode([[name, _node(kind)] for name, kind in frame.schema.items()]).decode()
    return {"schema": schema} if len(schema) <= _WHOLE_BYTES else {"schema_digest": blake3(schema.encode()).hexdigest()}


def _as_written(frame: Any, details: dict[str, str]) -> Any:
    """Return the frame with its original types, casting columns if possible."""
    found = _details(frame)
    if "schema" in details and not hasattr(pl.Categorical(), "ordering"):
        # Since 1.32 there is only one order of categories, which the task would produce here.
        details = {"schema": details["schema"].replace('["Categorical","physical"]', '["Categorical","lexical"]')}
    details = {name: said for name, said in details.items() if name != _ORDER}
    if found == details or not ("schema" in details or "schema_digest" in details):
        return frame
    if "schema" in details:
        wanted = {name: _dtype(node) for name, node in msgspec.json.decode(details["schema"])}
        if list(wanted) == frame.columns:
            cast = _calm(lambda: frame.cast(wanted, strict=True))
            if _details(cast) == details:
                return cast
    raise SerializationError(
        "a stored polars frame cannot be read with its original types",
        because=f"polars {pl.__version__} reads {', '.join(map(str, frame.dtypes[:5]))}",
        hint="use the version of polars that wrote it, or refresh the result",
    )


# -- the order


def _order(frame: Any) -> dict[str, str]:
    """Note which columns are known to be sorted, since the files do not say it."""
    known = {kind: [n for n, column in enumerate(frame) if column.flags[kind]] for kind in _DESCENDING}
    said = msgspec.json.encode(known).decode() if frame.height > 1 and any(known.values()) else ""
    return {_ORDER: said} if 0 < len(said) <= _WHOLE_BYTES else {}


def _ordered(frame: Any, details: dict[str, str]) -> Any:
    """Return the frame with the columns marked as sorted that were so when it was written."""
    for kind, numbers in msgspec.json.decode(details.get(_ORDER, "{}")).items():
        columns = [frame.to_series(n) for n in numbers]
        frame = frame.with_columns(
            column.set_sorted(descending=_DESCENDING[kind]) for column in columns if not column.flags[kind]
        )
    return frame


_ORDER = "order"
_DESCENDING = {"SORTED_ASC": False, "SORTED_DESC": True}


# -- types as JSON


def _node(kind: Any) -> Any:
    """Return a type as JSON, which is the same in every version of polars."""
    name = kind.base_type().__name__
    if name == "List":
        return [name, _node(kind.inner)]
    if name == "Array":
        inner, shape = kind, []
        while inner.base_type().__name__ == "Array":
            shape.append(inner.size)
            inner = inner.inner
        return [name, _node(inner), shape]
    if name == "Struct":
        return [name, [[field.name, _node(field.dtype)] for field in kind.fields]]
    if name == "Datetime":
        return [name, kind.time_unit, kind.time_zone]
    if name == "Duration":
        return [name, kind.time_unit]
    if name == "Decimal":
        return [name, kind.precision, kind.scale]
    if name == "Enum":
        return [name, list(kind.categories)]
    if name == "Categorical":
        return [name, getattr(kind, "ordering", None) or "lexical"]  # the only order since polars 1.32
    return [name]


def _dtype(node: Any) -> Any:
    name, *rest = node
    kind = getattr(pl, name)
    if name == "List":
        return kind(_dtype(rest[0]))
    if name == "Array":
        return kind(_dtype(rest[0]), tuple(rest[1]))
    if name == "Struct":
        return kind([pl.Field(field, _dtype(inner)) for field, inner in rest[0]])
    return kind(*rest) if rest else kind()
