"""Uploads of payloads to a bucket, in one request or in parts of which few are in memory.

All uploads of a process share one limit for parts being sent, so that many uploads need little more memory than a few:
each only adds the part it is filling. Parts are never copied.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import uuid
import weakref
from collections.abc import Coroutine
from typing import Any

from penstock.errors import StoreError
from penstock.storage.stores.objects import taken
from penstock.storage.stores.s3.answers import status_of

PART_BYTES = 8 << 20
"""Payloads up to this size are one request. Larger ones are sent in parts of this size, which grow later."""
PARTS_IN_FLIGHT = 4
BYTES_IN_FLIGHT = 64 << 20
"""The most bytes of all uploads of this process that are being sent."""
_PARTS_BEFORE_GROWTH = 1000  # of 10 000 that S3 allows: enough for its 5 TB
_MARK = "penstock-write"


_in_flight: weakref.WeakKeyDictionary[Any, dict[asyncio.Future[Any], int]] = weakref.WeakKeyDictionary()
"""Running requests and their bytes, by event loop (a forked process has another one)."""


async def _sent_with_others(request: Coroutine[Any, Any, Any], size: int) -> asyncio.Future[Any]:
    """Send a part once the shared limit has room for its bytes."""
    others = _in_flight.setdefault(asyncio.get_running_loop(), {})
    while others and sum(others.values()) + size > BYTES_IN_FLIGHT:
        await asyncio.wait(list(others), return_when=asyncio.FIRST_COMPLETED)
    sent = asyncio.ensure_future(request)
    others[sent] = size
    sent.add_done_callback(lambda done: others.pop(done))
    return sent


class _Part(io.BytesIO):
    """A buffer that stays open: some clients close what they have read, and then want to repeat it."""

    def close(self) -> None:
        """Do nothing: the memory is freed with the object."""


class Upload:
    """An upload: buffered up to one part, then sent in parts, a few at a time, and visible only at the end."""

    def __init__(self, store: Any, key: str) -> None:
        self._store, self._key = store, key
        self._bucket = store._location.bucket
        self._write_id = uuid.uuid4().hex
        self._buffer = _Part()
        self._sent: list[asyncio.Future[Any]] = []
        self._upload_id: str | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += self._buffer.write(view[done : done + self._part_bytes() - self._buffer.tell()])
            if self._buffer.tell() >= self._part_bytes():
                self._send_buffer()
        return len(view)

    def _send_buffer(self) -> None:
        part, self._buffer = self._buffer, _Part()
        self._store._call(lambda fs: self._send(fs, part))

    def _part_bytes(self) -> int:
        return int(PART_BYTES << len(self._sent) // _PARTS_BEFORE_GROWTH)

    async def _send(self, fs: Any, part: _Part) -> None:
        """Start to send a part, once not too many are being sent."""
        with self._store._translating("writing", self._key):
            if self._upload_id is None:
                mark = {_MARK: self._write_id}
                answer = await self._ask(fs, "create_multipart_upload", Metadata=mark)
                self._upload_id = answer["UploadId"]
            number = len(self._sent) + 1
            call = self._ask(fs, "upload_part", UploadId=self._upload_id, PartNumber=number, Body=part)
            self._sent.append(await _sent_with_others(call, part.getbuffer().nbytes))
            while len(waiting := [each for each in self._sent[-2 * PARTS_IN_FLIGHT :] if not each.done()]) >= (
                PARTS_IN_FLIGHT
            ):
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for each in self._sent[-2 * PARTS_IN_FLIGHT :]:
                if each.done():
                    each.result()

    async def _ask(self, fs: Any, method: str, **more: Any) -> Any:
        return await self._store._ask(fs, method, "writing", self._key, **more)

    def finish(self) -> None:
        if self._upload_id is None:
            enforced = self._store.conditions().enforced
            done = self._store._call(lambda fs: self._put_whole(fs, enforced))
        else:
            if self._buffer.tell():
                self._send_buffer()
            done = self._store._call(self._complete)
        if not done:
            raise taken(self._store._location.path(self._key))

    async def _put_whole(self, fs: Any, enforced: bool) -> bool:
        body, mark = self._buffer, {_MARK: self._write_id}
        if enforced:
            return await self._store._create(fs, self._key, body, Metadata=mark) or await self._is_mine(fs)
        with self._store._translating("writing", self._key):
            if await self._writer(fs) is not None:
                return False
            await self._ask(fs, "put_object", Body=body, Metadata=mark)
        return True

    async def _complete(self, fs: Any) -> bool:
        with self._store._translating("writing", self._key):
            answers = await asyncio.gather(*self._sent)
            parts = [{"PartNumber": i + 1, "ETag": answer["ETag"]} for i, answer in enumerate(answers)]
            # Not every service supports a condition here, but the name contains the attempt, so there is no rival.
            if await self._writer(fs) is not None:
                return False
            try:
                whole = {"Parts": parts}
                await self._ask(fs, "complete_multipart_upload", UploadId=self._upload_id, MultipartUpload=whole)
            except Exception:
                # If the answer was lost, the repeated request finds no such upload.
                if await self._is_mine(fs):
                    return True
                raise
        return True

    async def _writer(self, fs: Any) -> str | None:
        """Return the writer of the existing object: None if there is none, empty if it is unknown."""
        try:
            answer = await self._ask(fs, "head_object")
        except Exception as error:
            if status_of(error) == 404:
                return None
            raise
        return str(answer.get("Metadata", {}).get(_MARK, ""))

    async def _is_mine(self, fs: Any) -> bool:
        with self._store._translating("writing", self._key):
            return await self._writer(fs) == self._write_id

    def abandon(self) -> None:
        # If this fails, `sweep` removes the upload.
        with contextlib.suppress(StoreError):
            self._store._call(self._abort)

    async def _abort(self, fs: Any) -> None:
        for each in self._sent:
            each.cancel()
        await asyncio.gather(*self._sent, return_exceptions=True)
        if self._upload_id is not None:
            with self._store._translating("deleting", self._key):
                await self._ask(fs, "abort_multipart_upload", UploadId=self._upload_id)
