"""What turns a value into bytes and back: the one interface file of serializers.

Reading is by the codec that the record names, writing by the value's type (registry.py):

    codec              file       values
    parquet/arrow      .parquet   pyarrow Table and RecordBatch; a reader or generator of batches, streamed
    parquet/pandas     .parquet   pandas DataFrame, Series, Index and arrays
    parquet/polars     .parquet   polars DataFrame and Series
    arrow/pandas, …    .arrow     what Parquet has no type for; `arrow` alone is pyarrow's, and streams on request
    parquet/dask       in parts   Dask DataFrame and Series, written and read by its workers
    parquet/ray        in parts   Ray Dataset, likewise
    parquet/dataset    in parts   pyarrow Dataset; on request, a reader or generator of batches
    npy                .npy       numpy arrays without objects
    npy/masked         .npy       masked arrays
    json/array         .json      numpy arrays of objects that typed JSON keeps
    json               .json      None, bool, int, finite float, str, lists, dicts with str keys
    bytes              .bin       bytes from 64 KiB on, as they are
    json/typed         .json      other everyday values, enums, named tuples, dataclasses, models (docs/values.md)
    parts              in parts   containers that hold tables, arrays or objects, each part by its own codec
    parts/pickle       in parts   the same, with objects that only pickle keeps
    json/pydantic      .json      on request: pydantic models that their own JSON keeps
    json/struct        .json      on request: dataclasses and msgspec structs, likewise by msgspec
    pickle             .pkl       all else, by cloudpickle
    compressed/…       ….gz       `json` and `pickle` behind gzip, on request only

What is read back is a new value, equal to the written one and of its type (a stream comes back as a Table). Datasets in
parts (`.<number>-<mark>.parquet`, with a `.parts.json`) come back lazy: a stream as a pyarrow Dataset, others as they
were. Containers, in the same kind of files, come back whole.
"""

from __future__ import annotations

from typing import Any, BinaryIO, Protocol, runtime_checkable

from penstock.storage.records.records import About


@runtime_checkable
class Serializer(Protocol):
    """How the values of some types are written and read."""

    @property
    def name(self) -> str:
        """The codec: written into every record, so it means the same for ever."""
        ...

    @property
    def suffix(self) -> str:
        """Of the files, such as `.parquet`."""
        ...

    @property
    def safe(self) -> bool:
        """True if reading runs no code that the bytes name, whoever wrote them."""
        ...

    def can(self, value: Any) -> bool:
        """Whether `value` comes back equal and of its type. May warn with `SerializerFallback` when it says no."""
        ...

    def write(self, value: Any, file: BinaryIO) -> About | None:
        """Write all of `value` to `file`, which only takes `write`; returns what `read` needs besides the bytes."""
        ...

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        """The value again. `data` is verified and read-only: the value must not share it, unless nobody can change it.
        A serializer with a true `owns_data` gets data that are its own, to write to and to keep in the value.
        Raises any exception if that fails, and `SerializationError` before using more than `limit` bytes for it."""
        ...


@runtime_checkable
class PreparingSerializer(Serializer, Protocol):
    """One that has to encode a value to know whether it keeps it, and does so once."""

    def prepare(self, value: Any) -> Serializer | None:
        """A serializer of this value alone, which has it encoded; None where `can` says no."""
        ...


@runtime_checkable
class NarrowSerializer(Serializer, Protocol):
    """One that says of which classes its values are: while it is registered, tasks that are annotated to return what
    only pickle keeps are still refused before they run, unless their class is one of these."""

    @property
    def classes(self) -> tuple[type, ...]:
        """The classes; it takes no instance of any other."""
        ...


class SerializerFallback(UserWarning):
    """A value is stored as a pickle because its own format does not keep all of it."""


def type_name(value: Any) -> str:
    """The type of `value` as messages name it."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
