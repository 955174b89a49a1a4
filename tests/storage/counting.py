"""A store that counts the bytes read of its payloads."""

from __future__ import annotations

import io
from typing import Any, BinaryIO, cast


class Counting:
    """A store whose files are only read through it, not directly as files of this machine."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.bytes = 0

    def open(self, name: str) -> BinaryIO:
        file = self.inner.open(name)
        raw = file.detach() if isinstance(file, io.BufferedReader) else file
        return cast(BinaryIO, io.BufferedReader(_Counted(raw, self)))

    def local_path(self, name: str) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _Counted(io.RawIOBase):
    def __init__(self, raw: Any, counting: Counting) -> None:
        self._raw, self._counting = raw, counting

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._raw.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        count = int(self._raw.readinto(buffer))
        self._counting.bytes += count
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
