"""A payload on its way into a bucket: in one request, or in parts of which few are in memory."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import Any

from penstock.errors import StoreError
from penstock.storage.objects import taken
from penstock.storage.s3_answers import status_of

PART_BYTES = 8 << 20
"""Payloads up to this size are one request; larger ones are sent in parts of this size, later ones larger."""
PARTS_IN_FLIGHT = 4
_PARTS_BEFORE_GROWTH = 1000  # of 10 000 that S3 allows: enough for its 5 TB
_MARK = "penstock-write"


class Upload:
    """A payload on its way: kept until it is a part, then sent in parts, a few at a time, and visible at the end."""

    def __init__(self, store: Any, key: str) -> None:
        self._store, self._key = store, key
        self._bucket = store._location.bucket
        self._write_id = uuid.uuid4().hex
        self._buffer = bytearray()
        self._sent: list[asyncio.Future[Any]] = []
        self._upload_id: str | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._buffer += view
        if len(self._buffer) >= self._part_bytes():
            part, self._buffer = bytes(self._buffer), bytearray()
            self._store._call(lambda fs: self._send(fs, part))
        return len(view)

    def _part_bytes(self) -> int:
        return int(PART_BYTES << len(self._sent) // _PARTS_BEFORE_GROWTH)

    async def _send(self, fs: Any, part: bytes) -> None:
        """Begin to send a part, once there are not too many under way."""
        with self._store._translating("writing", self._key):
            if self._upload_id is None:
                answer = await fs._call_s3(
                    "create_multipart_upload", Bucket=self._bucket, Key=self._key, Metadata={_MARK: self._write_id}
                )
                self._upload_id = answer["UploadId"]
            call = fs._call_s3(
                "upload_part",
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload_id,
                PartNumber=len(self._sent) + 1,
                Body=part,
            )
            self._sent.append(asyncio.ensure_future(call))
            while len(waiting := [each for each in self._sent[-2 * PARTS_IN_FLIGHT :] if not each.done()]) >= (
                PARTS_IN_FLIGHT
            ):
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for each in self._sent[-2 * PARTS_IN_FLIGHT :]:
                if each.done():
                    each.result()

    def finish(self) -> None:
        if self._upload_id is None:
            enforced = self._store.conditions().enforced
            done = self._store._call(lambda fs: self._put_whole(fs, enforced))
        else:
            if self._buffer:
                rest = bytes(self._buffer)
                self._store._call(lambda fs: self._send(fs, rest))
            done = self._store._call(self._complete)
        if not done:
            raise taken(self._store._location.path(self._key))

    async def _put_whole(self, fs: Any, enforced: bool) -> bool:
        body, mark = bytes(self._buffer), {_MARK: self._write_id}
        if enforced:
            return await self._store._create(fs, self._key, body, Metadata=mark) or await self._is_mine(fs)
        with self._store._translating("writing", self._key):
            if await self._writer(fs) is not None:
                return False
            await fs._call_s3("put_object", Bucket=self._bucket, Key=self._key, Body=body, Metadata=mark)
        return True

    async def _complete(self, fs: Any) -> bool:
        with self._store._translating("writing", self._key):
            answers = await asyncio.gather(*self._sent)
            parts = [{"PartNumber": i + 1, "ETag": answer["ETag"]} for i, answer in enumerate(answers)]
            # Not every service knows a condition here, and names carry their attempt: nobody else completes this one.
            if await self._writer(fs) is not None:
                return False
            try:
                await fs._call_s3(
                    "complete_multipart_upload",
                    Bucket=self._bucket,
                    Key=self._key,
                    UploadId=self._upload_id,
                    MultipartUpload={"Parts": parts},
                )
            except Exception:
                # An answer that was lost: sent again, there is no such upload any more.
                if await self._is_mine(fs):
                    return True
                raise
        return True

    async def _writer(self, fs: Any) -> str | None:
        """Who wrote what is there: None if nothing is, empty if it does not say."""
        try:
            answer = await fs._call_s3("head_object", Bucket=self._bucket, Key=self._key)
        except Exception as error:
            if status_of(error) == 404:
                return None
            raise
        return str(answer.get("Metadata", {}).get(_MARK, ""))

    async def _is_mine(self, fs: Any) -> bool:
        with self._store._translating("writing", self._key):
            return await self._writer(fs) == self._write_id

    def abandon(self) -> None:
        # What cannot be aborted now, `sweep` removes.
        with contextlib.suppress(StoreError):
            self._store._call(self._abort)

    async def _abort(self, fs: Any) -> None:
        for each in self._sent:
            each.cancel()
        await asyncio.gather(*self._sent, return_exceptions=True)
        if self._upload_id is not None:
            with self._store._translating("deleting", self._key):
                await fs._call_s3(
                    "abort_multipart_upload", Bucket=self._bucket, Key=self._key, UploadId=self._upload_id
                )
