"""Values in an engine's shared memory: a pickle with separate large buffers.

Every consumer gets a value of its own: buffers that were writable in the producer are copied when the value is loaded.
Read-only buffers (those of Arrow and of read-only arrays) stay in shared memory.
"""

from __future__ import annotations

import pickle
from typing import Any

from penstock.objects.live import ResultPickler, dumps
from penstock.worker.shipping.values import INLINE_VALUE_BYTES, Pickled, pickle_simple, unsendable

Packed = tuple[tuple[bool, ...], list[Any]]
"""Whether each buffer may be shared, and the pickle followed by the buffers."""


class _File:
    """A file that appends to bytes. (Collecting a `BytesIO` whose bytes are still shared shows an error.)"""

    def __init__(self, data: bytearray) -> None:
        self._data = data

    def write(self, part: Any) -> None:
        self._data += part


def pack(value: Any, *, inline: int = INLINE_VALUE_BYTES) -> Pickled | Packed:
    """Pickle a value: as bytes if there are at most `inline` of them, else packed. Raises `SerializationError`."""
    simple = pickle_simple(value)
    if simple is not None and len(simple) <= inline:
        return Pickled(simple)
    beside: list[pickle.PickleBuffer] = []
    pickled = bytearray()
    try:
        ResultPickler(_File(pickled), protocol=5, buffer_callback=beside.append).dump(value)
    except BaseException as error:  # a __reduce__ may raise anything, or exit
        raise unsendable(value, error) from error
    size = len(pickled) + sum(buffer.raw().nbytes for buffer in beside)
    if size <= inline:
        return Pickled(dumps(value) if beside else bytes(pickled))
    shared = tuple(_never_written(memoryview(buffer)) for buffer in beside)
    return shared, [pickle.PickleBuffer(pickled), *beside]


def unpack(packed: Packed) -> Any:
    """Return a new value that shares only read-only buffers with others."""
    shared, (pickled, *buffers) = packed
    own = [buffer if keep else bytearray(buffer) for keep, buffer in zip(shared, buffers, strict=True)]
    return pickle.loads(pickled, buffers=own)


class PackedValue:
    """A packed value as engines keep, move and spill it: it knows its size, and its buffers travel without a copy."""

    __slots__ = ("packed",)

    def __init__(self, packed: Packed) -> None:
        self.packed = packed

    def __sizeof__(self) -> int:
        return sum(memoryview(buffer).nbytes for buffer in self.packed[1])

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        shared, buffers = self.packed
        # An engine may use an older protocol for some of its ways.
        travelling = pickle.PickleBuffer if protocol >= 5 else bytes
        return _packed_again, (shared, [travelling(buffer) for buffer in buffers])


def _packed_again(shared: tuple[bool, ...], buffers: list[Any]) -> PackedValue:
    return PackedValue((shared, buffers))


def _never_written(view: memoryview) -> bool:
    # Arrow's memory is immutable by convention, even if the buffer is writable.
    return view.readonly or type(view.obj).__module__.partition(".")[0] == "pyarrow"
