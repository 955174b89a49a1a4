"""The bytes of values: hashed while they are written, verified before they are read."""

from __future__ import annotations

import io
import mmap
import queue
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec
from blake3 import blake3

from penstock.checksums import new_hash
from penstock.errors import DamagedResult, PenstockError, SerializationError, StoreUnreachable
from penstock.storage.choosing import reader_of
from penstock.storage.records import INLINE_BYTES, About, PayloadFile, ResultRecord
from penstock.storage.serializers import Serializer, type_name
from penstock.storage.stores import PayloadStore

_LARGE_BYTES = 1 << 20
"""From this size on, files are hashed while the next part is made, and memory-mapped and hashed by several threads."""
_PARTS_AHEAD = 32


def as_inline(value: Any, serializer: Serializer) -> tuple[msgspec.Raw, About] | None:
    """The value as JSON inside a record, if it is stored as JSON and small."""
    if serializer.name.partition("/")[0] != "json":
        return None
    buffer = io.BytesIO()
    about = _written(value, serializer, buffer)
    data = buffer.getvalue()
    return (msgspec.Raw(data), about) if len(data) <= INLINE_BYTES else None


def write_payload(store: PayloadStore, name: str, value: Any, serializer: Serializer) -> tuple[PayloadFile, About]:
    """Write `value` under `name`, durable when it returns.

    Raises `SerializationError` for a value that does not fit, what the store raises, and what a stream's own code
    raises, as it is. Leaves nothing behind then.
    """
    with store.create(name) as file:
        tee = _Tee(file)
        try:
            about = _written(value, serializer, tee)
        finally:
            tee.finish()
    return PayloadFile(suffix=serializer.suffix, size=tee.size, checksum=tee.checksum.hexdigest()), about


def _written(value: Any, serializer: Serializer, file: Any) -> About:
    try:
        return serializer.write(value, file) or About()
    except Exception as error:
        # Some writers wrap what their file raises in errors of their own.
        store_error = getattr(file, "error", None)
        if store_error is not None and store_error is not error:
            raise store_error from error
        # What a stream's own code raises is the task's error, not ours.
        if store_error is not None or isinstance(error, PenstockError) or isinstance(value, Iterator):
            raise
        raise SerializationError(
            f"a {type_name(value)} cannot be stored as {serializer.name!r}", because=f"{type(error).__name__}: {error}"
        ) from error


class _Tee(io.RawIOBase):
    """Passes bytes on to a file, and counts and hashes them on the way.

    What is large is passed on and hashed by a thread of its own, while the writer makes the next part: then a
    verified payload takes no longer than a bare file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._parts: queue.Queue[bytes | None] | None = None
        self._thread: threading.Thread | None = None
        self.size = 0
        self.checksum = blake3()
        self.error: BaseException | None = None

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.size += size
        if self._parts is None and self.size >= _LARGE_BYTES:
            self._parts = queue.Queue(_PARTS_AHEAD)
            self._thread = threading.Thread(
                target=self._work, args=(self._parts,), name="penstock-payload", daemon=True
            )
            self._thread.start()
        if self._parts is None:
            self._pass_on(data)
        else:
            self._parts.put(bytes(data))
        if self.error is not None:
            raise self.error
        return size

    def finish(self) -> None:
        """Wait until all is passed on; raises what went wrong with that."""
        if self._parts is not None and self._thread is not None:
            self._parts.put(None)
            self._thread.join()
            self._parts = self._thread = None
        if self.error is not None:
            raise self.error

    def _work(self, parts: queue.Queue[bytes | None]) -> None:
        # Takes all there is even after an error, or the writer would wait for ever.
        while (part := parts.get()) is not None:
            if self.error is None:
                self._pass_on(part)

    def _pass_on(self, data: Any) -> None:
        try:
            self._file.write(data)
            self.checksum.update(data)
        except BaseException as error:  # noqa: BLE001  # raised by `write` or `finish`, in the writer's thread
            self.error = error


def read_value(store: PayloadStore, record: ResultRecord, *, allow_pickle: bool, limit: int) -> Any:
    """The value of a record, verified.

    Raises `CodecRefused` before any byte is read, `DamagedResult` if the bytes are not the ones that were written,
    `SerializationError` if they are and still do not read back (or need more than `limit` bytes), and
    `StoreUnreachable`.
    """
    serializer = reader_of(record.codec, allow_unsafe=allow_pickle)
    if record.payload is not None and record.payload.size > limit:
        raise SerializationError(
            f"a result of {record.payload.size} bytes is too large", because=f"{limit} is the limit"
        )
    data = memoryview(bytes(record.inline)) if record.payload is None else _verified(store, record, record.payload)
    try:
        return serializer.read(data, record.about, limit=limit)
    except PenstockError:
        raise
    except Exception as error:
        raise SerializationError(
            f"a stored result of {record.task} does not read back",
            where=record.payload_name or "inline",
            because=f"{type(error).__name__}: {error}",
            hint="the code or a package it was made with may have changed: refresh the result",
        ) from error


def verify_payload(store: PayloadStore, record: ResultRecord) -> None:
    """Raises `DamagedResult` unless the payload's bytes are the ones that were written."""
    if record.payload is not None:
        _verified(store, record, record.payload)


def _verified(store: PayloadStore, record: ResultRecord, payload: PayloadFile) -> memoryview:
    try:
        # Also what a forged suffix or attempt runs into.
        name = record.payload_name or ""
        with store.open(name) as file:
            data = _contents(file, payload.size)
    except FileNotFoundError:
        raise _damaged(record, "its payload is gone", gone=True) from None
    except OSError as error:
        raise StoreUnreachable("reading a payload failed", where=name, because=str(error)) from error
    if len(data) != payload.size:
        raise _damaged(record, f"its payload is not the {payload.size} bytes that were written")
    hasher = new_hash(nbytes=len(data))
    hasher.update(data)
    if hasher.hexdigest() != payload.checksum:
        raise _damaged(record, "its payload has another checksum")
    return data


def _contents(file: BinaryIO, size: int) -> memoryview:
    """All of the file; a byte more or less than `size` only where it has another size."""
    if size >= _LARGE_BYTES:
        try:
            # What was verified is what is parsed, without a copy. Maps all that is there, so that the size tells.
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (io.UnsupportedOperation, ValueError):
            pass  # not a file of this machine, or an empty one
    return memoryview(file.read(size + 1))


def _damaged(record: ResultRecord, because: str, *, gone: bool = False) -> DamagedResult:
    return DamagedResult(
        f"a stored result of {record.task} is damaged",
        where=record.payload_name or "",
        because=because,
        hint="it is computed again where its task can run",
        gone=gone,
    )
