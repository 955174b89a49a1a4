"""Streams of record batches, which are read once and never held as a whole."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import Any

from penstock.errors import SerializationError
from penstock.storage.formats.base import type_name


def is_reader(value: Any) -> bool:
    """Whether it is a pyarrow RecordBatchReader."""
    # It may be in the middle of being imported by another thread.
    reader = getattr(sys.modules.get("pyarrow"), "RecordBatchReader", None)
    return reader is not None and isinstance(value, reader)


def is_stream(value: Any) -> bool:
    """Generators, maps and the like: they could not be pickled, and only running them tells what they yield."""
    return isinstance(value, Iterator) and type(value).__module__ in (
        "builtins",
        "itertools",
    )


def batches_of(stream: Any) -> tuple[Any, Iterator[Any]]:
    """The schema of a stream and its batches (or tables), none of them read but the first.

    Raises `SerializationError` if it is empty or of anything else, also while it is read.
    """
    if is_reader(stream):
        return stream.schema, iter(stream)
    first = next(stream, None)
    if first is None:
        raise SerializationError(
            "an empty stream cannot be stored",
            because="nothing says which columns it has",
            hint="yield one empty batch, or return a list",
        )
    return _batch(first).schema, map(_batch, itertools.chain([first], stream))


def _batch(value: Any) -> Any:
    import pyarrow as pa

    if not isinstance(value, (pa.RecordBatch, pa.Table)):
        raise SerializationError(
            f"an iterator of {type_name(value)} cannot be stored",
            because="only iterators of record batches are, as one table",
            hint="return a list",
        )
    return value
