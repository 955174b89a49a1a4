"""The interface of serializers, which turn values into bytes and back.

A value is written by a serializer for its type, and read by the serializer for the codec in its record (registry.py):

    codec              file       values
    parquet/arrow      .parquet   pyarrow Table and RecordBatch; a reader or generator of batches, streamed
    parquet/pandas     .parquet   pandas DataFrame, Series, Index and arrays
    parquet/polars     .parquet   polars DataFrame and Series
    arrow/pandas, …    .arrow     values that Parquet has no type for; `arrow` for pyarrow tables, streams on request
    parquet/dask       in parts   Dask DataFrame and Series, written and read by its workers
    parquet/ray        in parts   Ray Dataset, likewise
    parquet/dataset    in parts   pyarrow Dataset; on request, a reader or generator of batches
    npy                .npy       numpy arrays without objects
    npy/masked         .npy       masked arrays
    json/array         .json      numpy arrays of objects that typed JSON keeps
    json               .json      None, bool, int, finite float, str, lists, dicts with str keys
    bytes              .bin       64 KiB of bytes or more, unchanged
    json/typed         .json      other everyday values, enums, named tuples, dataclasses, models (docs/values.md)
    parts              in parts   containers that hold tables, arrays or objects, each part by its own codec
    parts/pickle       in parts   the same, with objects that only pickle keeps
    json/pydantic      .json      on request: pydantic models that their own JSON keeps
    json/struct        .json      on request: dataclasses and msgspec structs, likewise by msgspec
    pickle             .pkl       everything else, by cloudpickle
    compressed/…       ….gz       `json` and `pickle` with gzip, on request only

Reading returns a new value that is equal to the written one and of its type (a stream is read as a Table). Datasets in
parts (`.<number>-<mark>.parquet`, with a `.parts.json`) are read lazily: a stream as a pyarrow Dataset, others as their
own type. Containers, stored in the same kinds of files, are read whole.
"""

from __future__ import annotations

from typing import Any, BinaryIO, Protocol, runtime_checkable

from penstock.storage.records.records import About


@runtime_checkable
class Serializer(Protocol):
    """Writes and reads the values of some types."""

    @property
    def name(self) -> str:
        """The codec. It is written into every record, so its meaning must never change."""
        ...

    @property
    def suffix(self) -> str:
        """The suffix of its files, such as `.parquet`."""
        ...

    @property
    def safe(self) -> bool:
        """Whether reading never runs code that the bytes name, even if an attacker wrote them."""
        ...

    def can(self, value: Any) -> bool:
        """Return whether the value, once written and read, is equal and of its type.

        May warn with `SerializerFallback` if the answer is False.
        """
        ...

    def write(self, value: Any, file: BinaryIO) -> About | None:
        """Write a value.

        Args:
            value: A value for which `can` is true.
            file: An open file that supports `write` only.

        Returns:
            What `read` needs in addition to the bytes, if anything.
        """
        ...

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        """Read a value.

        Args:
            data: The verified bytes, read-only. The value must not refer to them unless it is immutable. A serializer
                with a true attribute `owns_data` receives a writable buffer of its own, which the value may keep.
            about: What `write` returned.
            limit: The most memory to use, in bytes.

        Returns:
            A new value.

        Raises:
            SerializationError: The value needs more than `limit` bytes. Must be raised before using them.
            Exception: Any other exception means that the bytes cannot be read.
        """
        ...


@runtime_checkable
class PreparingSerializer(Serializer, Protocol):
    """A serializer that must encode a value to know whether it can, and does so only once."""

    def prepare(self, value: Any) -> Serializer | None:
        """Encode a value and return a serializer for this value only, or None if `can` is false."""
        ...


@runtime_checkable
class NarrowSerializer(Serializer, Protocol):
    """A serializer that declares its classes.

    Tasks annotated to return a value that needs pickle are refused before they run, unless a registered serializer may
    take it. A serializer without `classes` may take any value, and so disables this check.
    """

    @property
    def classes(self) -> tuple[type, ...]:
        """The classes whose instances, including those of subclasses, it takes. It takes no others."""
        ...


class SerializerFallback(UserWarning):
    """A value is stored as a pickle because its own format would lose a part of it."""


def type_name(value: Any) -> str:
    """Return the name of a value's type for messages."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
