"""A store in a bucket of S3 or of a service that speaks its protocol.

Results rest on `If-None-Match: *`, which lets the service refuse a second writer. What it answers is told apart by HTTP
status, never by the class of an exception: 412 the name is taken; 409 two writers met and nothing landed, so again; 403
and a missing bucket are about the configuration; 5xx and silence leave it unknown what happened, which is settled by
reading (`ResultStore.commit`). Amazon documents the header in "Conditional requests" of its S3 user guide.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
import uuid
from typing import Any, ClassVar

from penstock.errors import StoreError, StoreFull, StoreNotWritable, StoreRefused, StoreUnreachable
from penstock.storage.objects import CALL_SECONDS, IN_FLIGHT, ObjectStore, Page, taken
from penstock.storage.stores import MAX_RECORD_BYTES

PART_BYTES = 8 << 20
"""Payloads up to this size are one request; larger ones are sent in parts of this size, later ones larger."""
PARTS_IN_FLIGHT = 4
_PARTS_BEFORE_GROWTH = 1000  # of 10 000 that S3 allows: enough for its 5 TB
_CONFLICTS = 8
_TRIES = 5
_MARK = "penstock-write"
_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "RequestTimeTooSkewed",
}
_PERMISSIONS = {
    "reading": "s3:GetObject and s3:ListBucket",  # without the second, a missing object is a 403 and not a 404
    "listing": "s3:ListBucket",
    "writing": "s3:PutObject",
    "deleting": "s3:DeleteObject",
}


class S3Store(ObjectStore):
    """Records and payloads below `s3://bucket/folder`, as AWS's own tools are set up to reach it.

    Endpoint, region, profile and credentials come from where boto3 takes them (`AWS_ENDPOINT_URL`, `AWS_PROFILE`,
    `~/.aws`, instance roles); the address may name `endpoint_url`, `region` and `profile`, and `trusted=true`. With an
    endpoint of one's own the bucket is part of the path, and checksums are sent only where they are required, since
    many services know no others.

    The bucket has to exist. Needed are `s3:GetObject`, `s3:PutObject`, `s3:ListBucket`, and for `gc` and removing
    `s3:DeleteObject`. Promised is what the service enforces: see `conditions`.
    """

    options: ClassVar = ("endpoint_url", "profile", "region", "trusted")
    extra: ClassVar = "s3"
    variables: ClassVar = "AWS_"

    def _new_filesystem(self, *, commits: bool) -> Any:
        import s3fs
        from fsspec.config import conf

        said = conf.get("s3", {})  # what the user told fsspec, which s3fs takes for itself as far as we say nothing
        region, profile = self._location.option("region"), self._location.option("profile")
        endpoint = self._location.option("endpoint_url")
        config: dict[str, Any] = {
            "connect_timeout": 5.0,
            "read_timeout": CALL_SECONDS,
            "max_pool_connections": IN_FLIGHT,
            "retries": {"mode": "standard", "total_max_attempts": 2 if commits else _TRIES},
        }
        if endpoint or said.get("endpoint_url") or _configured_endpoint(profile):
            config["s3"] = {"addressing_style": "path"}
            config["request_checksum_calculation"] = config["response_checksum_validation"] = "when_required"
        options: dict[str, Any] = {"endpoint_url": endpoint, "profile": profile}
        if region:
            options["client_kwargs"] = {**said.get("client_kwargs", {}), "region_name": region}
        fs = s3fs.S3FileSystem(
            config_kwargs={**config, **said.get("config_kwargs", {})},
            use_listings_cache=False,
            skip_instance_cache=True,
            **{name: value for name, value in options.items() if value},
        )
        fs.retries = 1  # the client repeats what may be repeated; two who do so multiply
        return fs

    # -- records

    async def _read(self, fs: Any, key: str) -> bytes | None:
        try:
            async with asyncio.timeout(_TRIES * CALL_SECONDS):
                answer = await fs._call_s3("get_object", Bucket=self._location.bucket, Key=key)
                try:
                    return await _beginning(answer["Body"], MAX_RECORD_BYTES + 1)
                finally:
                    answer["Body"].close()
        except Exception as error:
            if _is_missing_key(error):
                return None
            raise self._meaning(error, "reading", key) from error

    async def _write(self, fs: Any, key: str, data: bytes) -> None:
        with _Translating(self, "writing", key):
            await fs._call_s3("put_object", Bucket=self._location.bucket, Key=key, Body=data)

    async def _create(self, fs: Any, key: str, data: bytes, **more: Any) -> bool:
        for conflict in range(_CONFLICTS):
            try:
                await fs._call_s3(
                    "put_object", Bucket=self._location.bucket, Key=key, Body=data, IfNoneMatch="*", **more
                )
                return True
            except Exception as error:
                status = _status(error)
                if status == 412:
                    return False
                if status != 409:
                    raise self._meaning(error, "writing", key) from error
                last = error
            await asyncio.sleep(0.02 * 2**conflict * random.uniform(0.5, 1.0))
        raise self._meaning(last, "writing", key) from last

    async def _remove(self, fs: Any, key: str) -> None:
        with _Translating(self, "deleting", key):
            await fs._call_s3("delete_object", Bucket=self._location.bucket, Key=key)

    async def _page(self, fs: Any, prefix: str, mark: Any) -> tuple[Page, Any]:
        more = {"ContinuationToken": mark} if mark else {}
        with _Translating(self, "listing", prefix):
            answer = await fs._call_s3("list_objects_v2", Bucket=self._location.bucket, Prefix=prefix, **more)
        page = [(each["Key"], each["Size"], each["LastModified"].timestamp()) for each in answer.get("Contents", [])]
        return page, answer.get("NextContinuationToken")

    async def _versioned(self, fs: Any) -> bool | None:
        try:
            answer = await fs._call_s3("get_bucket_versioning", Bucket=self._location.bucket)
        except Exception as error:
            if (_status(error) or 0) in (400, 403, 404, 405, 501):
                return None  # it takes a permission of its own, and not every service knows it
            raise self._meaning(error, "reading", "") from error
        return bool(answer.get("Status") == "Enabled")

    # -- payloads

    def _upload(self, key: str) -> _Upload:
        return _Upload(self, key)

    def sweep(self, *, older_than: float) -> int:
        """Abort uploads that were begun so long ago and never finished: they cost money and nobody sees them."""
        return self._call(lambda fs: self._abort_uploads(fs, time.time() - older_than))

    async def _abort_uploads(self, fs: Any, before: float) -> int:
        bucket, root = self._location.bucket, self._location.prefix
        begun: list[dict[str, Any]] = []
        marks: dict[str, str] = {}
        with _Translating(self, "listing", root):
            while True:
                answer = await fs._call_s3("list_multipart_uploads", Bucket=bucket, Prefix=root, **marks)
                begun += [each for each in answer.get("Uploads", []) if each["Initiated"].timestamp() <= before]
                if not answer.get("IsTruncated"):
                    break
                marks = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}
        for each in begun:
            with _Translating(self, "deleting", each["Key"]):
                await fs._call_s3("abort_multipart_upload", Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"])
        return len(begun)

    # -- what its answers mean

    def _meaning(self, error: BaseException, doing: str, key: str) -> StoreError:
        if isinstance(error, StoreError):
            return error
        where, status, code = self._location.path(key), _status(error), _code(error)
        because = " ".join(f"{code} {_said(error)}".split())
        if status is None and _of_configuration(error):
            return StoreRefused(
                "there is no way into the bucket",
                where=where,
                because=because,
                hint="set up credentials where boto3 finds them: AWS_PROFILE, AWS_ACCESS_KEY_ID, ~/.aws, a role",
            )
        if status is None or status in (408, 409, 429) or (status >= 500 and status != 501):
            return StoreUnreachable(f"{doing} failed", where=where, because=because, status=status)
        if code in ("QuotaExceeded", "InsufficientStorage", "EntityTooLarge"):
            return StoreFull("the bucket is full", where=where, because=because, status=status)
        if code == "NoSuchBucket":
            return StoreRefused(
                f"there is no bucket {self._location.bucket}",
                where=where,
                because=because,
                hint="create it, or correct the store's address or AWS_ENDPOINT_URL: Penstock creates no buckets",
                status=status,
            )
        if status == 403 and code in _CREDENTIALS:
            return StoreRefused(
                "the credentials are not accepted",
                where=where,
                because=because,
                hint="look which ones are found: `aws sts get-caller-identity` says who you are",
                status=status,
            )
        if status in (401, 403):
            kind = StoreRefused if doing in ("reading", "listing") else StoreNotWritable
            return kind(
                f"{doing} is not allowed in the bucket {self._location.bucket}",
                where=where,
                because=because,
                hint=f"it needs the permission {_PERMISSIONS[doing]}",
                status=status,
            )
        return StoreRefused(f"{doing} was refused", where=where, because=because, status=status)


class _Translating:
    """Exceptions of the client become the store's."""

    def __init__(self, store: S3Store, doing: str, key: str) -> None:
        self._store, self._doing, self._key = store, doing, key

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, StoreError):
            raise self._store._meaning(error, self._doing, self._key) from error


class _Upload:
    """A payload on its way: kept until it is a part, then sent in parts, a few at a time, and visible at the end."""

    def __init__(self, store: S3Store, key: str) -> None:
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
        with _Translating(self._store, "writing", self._key):
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
        with _Translating(self._store, "writing", self._key):
            if await self._writer(fs) is not None:
                return False
            await fs._call_s3("put_object", Bucket=self._bucket, Key=self._key, Body=body, Metadata=mark)
        return True

    async def _complete(self, fs: Any) -> bool:
        with _Translating(self._store, "writing", self._key):
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
            if _status(error) == 404:
                return None
            raise
        return str(answer.get("Metadata", {}).get(_MARK, ""))

    async def _is_mine(self, fs: Any) -> bool:
        with _Translating(self._store, "writing", self._key):
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
            with _Translating(self._store, "deleting", self._key):
                await fs._call_s3(
                    "abort_multipart_upload", Bucket=self._bucket, Key=self._key, UploadId=self._upload_id
                )


async def _beginning(body: Any, most: int) -> bytes:
    """So many bytes of an answer at the most; one read may give fewer than there are."""
    data = b""
    while len(data) < most and (more := await body.read(most - len(data))):
        data += more
    return data


# -- what an exception says -------------------------------------------------------------------------------------------


def _response(error: BaseException) -> dict[str, Any] | None:
    """The answer behind an exception: s3fs wraps the client's."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict) and "Error" in response:
            return response
        seen = seen.__cause__
    return None


def _status(error: BaseException) -> int | None:
    """The HTTP status of an answer; None if there was none."""
    response = _response(error)
    status = (response or {}).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(status) if status else None


def _code(error: BaseException) -> str:
    response = _response(error)
    return str(response["Error"].get("Code", "")) if response else type(error).__name__


def _said(error: BaseException) -> str:
    response = _response(error)
    return str(response["Error"].get("Message", "")) if response else str(error)


def _is_missing_key(error: BaseException) -> bool:
    return _status(error) == 404 and _code(error) in ("NoSuchKey", "404", "NotFound")


def _of_configuration(error: BaseException) -> bool:
    """Whether the client never sent anything because of how it is set up."""
    from botocore import exceptions

    kinds = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.ProfileNotFound,
        exceptions.ConfigParseError,
        exceptions.ParamValidationError,
        exceptions.TokenRetrievalError,
        exceptions.SSOError,
        exceptions.InvalidRegionError,
    )
    return isinstance(error, (*kinds, ValueError))


def _configured_endpoint(profile: str | None) -> str | None:
    """An endpoint of the user's own, from where botocore reads it."""
    from botocore.session import Session

    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if named or os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") == "true":
        return named
    found: str | None = Session(profile=profile).get_scoped_config().get("endpoint_url")
    return found
