"""Payloads in a bucket as files: large reads use several concurrent requests, and interrupted ones are repeated."""

from __future__ import annotations

import asyncio
import io
from typing import Any, BinaryIO, cast

from penstock.storage.stores.s3.answers import is_broken_off, is_missing_key, status_of

PART_BYTES = 16 << 20
PARTS_IN_FLIGHT = 4
_BUFFER = 1 << 20
_TRIES = 3


def open_payload(store: Any, key: str) -> BinaryIO:
    """Open a seekable file. Raises `FileNotFoundError` and the store's errors, also while it is read."""
    return cast(BinaryIO, io.BufferedReader(_Download(store, key), _BUFFER))


class _Download(io.RawIOBase):
    def __init__(self, store: Any, key: str) -> None:
        self._store, self._key, self._at = store, key, 0
        head = store._call(self._head)
        self._size, self._etag = int(head["ContentLength"]), head.get("ETag")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        view = view[: max(0, self._size - self._at)]
        if view:
            self._store._call(lambda fs: self._fill(fs, view, self._at))
        self._at += len(view)
        return len(view)

    def readall(self) -> bytes:
        # The default of io makes a request for each 8 kB.
        rest = bytearray(max(0, self._size - self._at))
        self.readinto(rest)
        return bytes(rest)

    async def _head(self, fs: Any) -> Any:
        try:
            return await self._store._ask(fs, "head_object", "reading", self._key)
        except Exception as error:
            raise self._meaning(error) from error

    async def _fill(self, fs: Any, view: memoryview, begin: int) -> None:
        """Fill the view with the bytes from `begin` on."""
        todo = iter(range(0, len(view), PART_BYTES))

        async def reader() -> None:
            for start in todo:
                await self._read_part(fs, view[start : start + PART_BYTES], begin + start)

        readers = [asyncio.ensure_future(reader()) for _ in range(min(PARTS_IN_FLIGHT, 1 + len(view) // PART_BYTES))]
        try:
            await asyncio.gather(*readers)
        finally:
            for each in readers:
                each.cancel()

    async def _read_part(self, fs: Any, view: memoryview, begin: int) -> None:
        for left in reversed(range(_TRIES)):
            try:
                reading = self._read_once(fs, view, begin)
                return cast(None, await self._store._in_time(reading, "reading", self._key, len(view)))
            except Exception as error:
                if left == 0 or status_of(error) is not None or not is_broken_off(error):
                    raise self._meaning(error) from error

    async def _read_once(self, fs: Any, view: memoryview, begin: int) -> None:
        answer = await fs._call_s3(
            "get_object",
            Bucket=self._store._location.bucket,
            Key=self._key,
            Range=f"bytes={begin}-{begin + len(view) - 1}",
            **({"IfMatch": self._etag} if self._etag else {}),
        )
        body, done = answer["Body"], 0
        try:
            while done < len(view):
                chunk = await body.read(len(view) - done)
                if not chunk:
                    raise EOFError(f"{done} of {len(view)} bytes came")
                view[done : done + len(chunk)] = chunk
                done += len(chunk)
        finally:
            body.close()

    def _meaning(self, error: BaseException) -> Exception:
        if is_missing_key(error):
            return FileNotFoundError(f"no {self._store._location.path(self._key)}")
        meaning: Exception = self._store._meaning(error, "reading", self._key)
        return meaning
