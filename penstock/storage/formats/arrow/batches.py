"""Streams of record batches, which are read once and never held in memory as a whole."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import Any

from penstock.errors import SerializationError
from penstock.imported import loaded
from penstock.storage.formats.base import type_name


def is_reader(value: Any) -> bool:
    """Return whether a value is a pyarrow RecordBatchReader."""
    # Another thread may be importing pyarrow at the moment.
    reader = getattr(sys.modules.get("pyarrow"), "RecordBatchReader", None)
    return reader is not None and isinstance(value, reader)


def is_batch(value: Any) -> bool:
    """Return whether a value is a part of a stream: a pyarrow RecordBatch or Table."""
    arrow = loaded("pyarrow")
    return arrow is not None and isinstance(value, arrow.RecordBatch | arrow.Table)


def is_stream(value: Any) -> bool:
    """Return whether a value is a generator, map or the like, whose items are only known by running it."""
    return isinstance(value, Iterator) and type(value).__module__ in (
        "builtins",
        "itertools",
    )


def batches_of(stream: Any) -> tuple[Any, Iterator[Any]]:
    """Return the schema of a stream and an iterator of its batches (or tables). Reads only the first one.

    Raises `SerializationError`, also during iteration, if the stream is empty or yields anything else.
    """
    if is_reader(stream):
        return stream.schema, iter(stream)
    first = next(stream, None)
    if first is None:
        raise SerializationError(
            "an empty stream cannot be stored",
            because="its columns are unknown",
            hint="yield one empty batch, or return a list",
        )
    return _batch(first).schema, map(_batch, itertools.chain([first], stream))


def _batch(value: Any) -> Any:
    if not is_batch(value):
        raise SerializationError(
            f"an iterator of {type_name(value)} cannot be stored",
            because="only iterators of record batches can be stored, as one table",
            hint="return a list",
        )
    return value
