"""Files that other users can write, opened for pyarrow with a checked schema.

The schema is at the end of a Parquet or Arrow file. It is read and checked once, and then served from memory, so that
later changes of the file cannot affect it.
"""

from __future__ import annotations

import io
import os
import struct
from typing import Any, BinaryIO

from penstock.errors import SerializationError
from penstock.storage.formats.arrow.schemas import check_file, check_parquet

_TAIL_BYTES = 64 << 10
_ENDS = {b"PAR1": ("<I", 8, check_parquet), b"ROW1": ("<i", 10, check_file)}
"""By the last four bytes: the format of the footer's length, the bytes after the footer, and the check."""


class CheckedFile(io.RawIOBase):
    """A file of known size whose schema names no type that could run code. Creating it raises `CodecRefused`."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__()
        self._file, self._size, self._at = file, size, 0
        try:
            self._tail = _checked_tail(file, size)
        except BaseException:
            file.close()
            raise

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        start = self._size - len(self._tail)
        if self._at >= start:
            chunk = self._tail[self._at - start : self._at - start + len(view)]
        else:
            self._file.seek(self._at)
            chunk = self._file.read(min(len(view), start - self._at))
        view[: len(chunk)] = chunk
        self._at += len(chunk)
        return len(chunk)

    def readall(self) -> bytes:
        return self.read(self._size - self._at)

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return self.readall()
        chunks = []
        while size > 0 and (chunk := super().read(size)):
            chunks.append(chunk)
            size -= len(chunk)
        return b"".join(chunks)

    def close(self) -> None:
        self._file.close()
        super().close()


def _checked_tail(file: BinaryIO, size: int) -> bytes:
    tail = _last(file, size, _TAIL_BYTES)
    form, after, check = _ENDS.get(tail[-4:], ("", 0, None))
    if check is None or len(tail) < after:
        raise SerializationError("a stored table cannot be read", because="its end is not that of a table")
    (length,) = struct.unpack_from(form, tail, len(tail) - after)
    whole = length + after + 12  # including the start of the smallest possible file
    if whole > len(tail) and len(tail) < size:
        tail = _last(file, size, whole)
    check(memoryview(tail))
    return tail


def _last(file: BinaryIO, size: int, count: int) -> bytes:
    file.seek(max(0, size - count))
    return file.read(min(size, count))
