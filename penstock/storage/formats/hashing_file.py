"""Files whose bytes are counted and hashed while they are written to a store."""

from __future__ import annotations

import io
import queue
import threading
from typing import Any, BinaryIO

from blake3 import blake3

LARGE_BYTES = 1 << 20
"""Larger files are hashed in a thread of their own."""
_PARTS_AHEAD = 4
_PART_BYTES = 1 << 20
"""The approximate size of a part, whatever the size of single writes: half of Parquet's writes are a few bytes."""


class HashedFile(io.RawIOBase):
    """Passes bytes on to a file, counting and hashing them.

    For large files, a thread writes and hashes one part while the caller produces the next, so that a verified payload
    takes no longer than a plain file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._parts: queue.Queue[bytearray | None] | None = None
        self._thread: threading.Thread | None = None
        self._pending = bytearray()
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
        if self._parts is None and self.size >= LARGE_BYTES:
            self._parts = queue.Queue(_PARTS_AHEAD)
            self._thread = threading.Thread(
                target=self._work, args=(self._parts,), name="penstock-payload", daemon=True
            )
            self._thread.start()
        if self._parts is None:
            self._pass_on(data)
        else:
            whole = memoryview(data).cast("B")
            for begin in range(0, size, _PART_BYTES):
                self._pending += whole[begin : begin + _PART_BYTES]
                if len(self._pending) >= _PART_BYTES:
                    self._parts.put(self._pending)
                    self._pending = bytearray()
        if self.error is not None:
            raise self.error
        return size

    def finish(self) -> None:
        """Wait until everything is written. Raises the error of a failed write."""
        if self._parts is not None and self._thread is not None:
            self._parts.put(self._pending)
            self._parts.put(None)
            self._pending = bytearray()
            self._thread.join()
            self._parts = self._thread = None
        if self.error is not None:
            raise self.error

    def _work(self, parts: queue.Queue[bytearray | None]) -> None:
        # Empties the queue even after an error; otherwise the writer would block.
        while (part := parts.get()) is not None:
            if self.error is None:
                self._pass_on(part)

    def _pass_on(self, data: Any) -> None:
        try:
            self._file.write(data)
            self.checksum.update(data)
        except BaseException as error:  # noqa: BLE001  # raised by `write` or `finish`, in the writer's thread
            self.error = error
