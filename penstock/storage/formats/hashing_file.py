"""Files whose bytes are counted and hashed on their way to the store."""

from __future__ import annotations

import io
import queue
import threading
from typing import Any, BinaryIO

from blake3 import blake3

LARGE_BYTES = 1 << 20
"""From this size on, files are hashed while the next part is made."""
_PARTS_AHEAD = 4
_PART_BYTES = 1 << 20
"""Parts have about this size, however much is written at once: half of what Parquet writes is a few bytes."""


class HashedFile(io.RawIOBase):
    """Passes bytes on to a file, and counts and hashes them on the way.

    What is large is passed on and hashed by a thread of its own, while the writer makes the next part: then a
    verified payload takes no longer than a bare file.
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
        """Wait until all is passed on; raises what went wrong with that."""
        if self._parts is not None and self._thread is not None:
            self._parts.put(self._pending)
            self._parts.put(None)
            self._pending = bytearray()
            self._thread.join()
            self._parts = self._thread = None
        if self.error is not None:
            raise self.error

    def _work(self, parts: queue.Queue[bytearray | None]) -> None:
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
