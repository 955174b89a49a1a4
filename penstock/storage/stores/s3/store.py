"""`S3Store`: a store in a bucket of S3 or a compatible service.

Publishing relies on `If-None-Match: *`, with which the service rejects a second writer. Answers are distinguished by
HTTP status, never by the class of an exception: 412 means that the name is taken; 409 that two writers collided and
nothing was written, so the request is repeated; 403 and a missing bucket are configuration errors; after a 5xx or a
timeout it is unknown whether a record was written, which is settled by reading (`ResultStore.commit`). Amazon
documents the header under "Conditional requests" in the S3 user guide.
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, ClassVar

from penstock.clocks import JITTER
from penstock.errors import StoreError
from penstock.storage.stores.base import MAX_RECORD_BYTES
from penstock.storage.stores.objects import CALL_SECONDS, IN_FLIGHT, ObjectStore, Page
from penstock.storage.stores.s3.answers import is_broken_off, is_missing_key, meaning, status_of
from penstock.storage.stores.s3.downloads import open_payload
from penstock.storage.stores.s3.uploads import Upload

CONNECT_SECONDS = 15.0
"""Long enough for a process that shares its processor with many others: the clock runs while it waits for its turn."""
_CONFLICTS = 8
_TRIES = 3


class S3Store(ObjectStore):
    """Records and payloads below `s3://bucket/folder`, with the configuration of AWS's own tools.

    Endpoint, region, profile and credentials are found like those of boto3 (`AWS_ENDPOINT_URL`, `AWS_PROFILE`,
    `~/.aws`, instance roles). The address may set `endpoint_url`, `region`, `profile` and `trusted=true`. With a custom
    endpoint, the bucket is part of the path, and checksums are only sent if required, since many services do not
    support others.

    The bucket must exist. Required permissions are `s3:GetObject`, `s3:PutObject` and `s3:ListBucket`, and
    `s3:DeleteObject` for `gc` and removing results. The guarantees depend on what the service enforces; see
    `conditions`.
    """

    options: ClassVar = ("endpoint_url", "profile", "region", "trusted")
    extra: ClassVar = "s3"
    variables: ClassVar = "AWS_"

    def _new_filesystem(self, *, commits: bool) -> Any:
        import s3fs
        from fsspec.config import conf

        said = conf.get("s3", {})  # the user's configuration of fsspec, which s3fs uses for everything not set here
        region, profile = self._location.option("region"), self._location.option("profile")
        endpoint = self._location.option("endpoint_url")
        config: dict[str, Any] = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": CALL_SECONDS,
            "max_pool_connections": IN_FLIGHT,
            "retries": {"mode": "standard", "total_max_attempts": 2 if commits else _TRIES},
        }
        if endpoint or said.get("endpoint_url") or _configured_endpoint(profile):
            config["s3"] = {"addressing_style": "path"}
            config["request_checksum_calculation"] = config["response_checksum_validation"] = "when_required"
        options: dict[str, Any] = {"endpoint_url": endpoint, "profile": profile}
        # Shares the session, since reading the service's description takes a tenth of a second.
        options["session"] = getattr(self._twin(commits=commits), "session", None)
        if region:
            options["client_kwargs"] = {**said.get("client_kwargs", {}), "region_name": region}
        fs = s3fs.S3FileSystem(
            config_kwargs={**config, **said.get("config_kwargs", {})},
            use_listings_cache=False,
            skip_instance_cache=True,
            **{name: value for name, value in options.items() if value},
        )
        fs.retries = 1  # the client itself repeats requests; repetitions would multiply
        return fs

    # -- records

    async def _read(self, fs: Any, key: str) -> bytes | None:
        for left in reversed(range(_TRIES)):
            try:
                return await self._in_time(self._read_once(fs, key), "reading", key)
            except Exception as error:
                if is_missing_key(error):
                    return None
                # The client does not repeat interrupted answers.
                if left == 0 or status_of(error) is not None or not is_broken_off(error):
                    raise self._meaning(error, "reading", key) from error
        raise AssertionError("the last try answers or raises")

    async def _read_once(self, fs: Any, key: str) -> bytes:
        answer = await fs._call_s3("get_object", Bucket=self._location.bucket, Key=key)
        try:
            return await _beginning(answer["Body"], MAX_RECORD_BYTES + 1)
        finally:
            answer["Body"].close()

    async def _write(self, fs: Any, key: str, data: bytes) -> None:
        with self._translating("writing", key):
            await self._ask(fs, "put_object", "writing", key, Body=data)

    async def _create(self, fs: Any, key: str, data: bytes | io.BytesIO, **more: Any) -> bool:
        for conflict in range(_CONFLICTS):
            try:
                await self._ask(fs, "put_object", "writing", key, Body=data, IfNoneMatch="*", **more)
                return True
            except Exception as error:
                status = status_of(error)
                if status == 412:
                    return False
                if status != 409:
                    raise self._meaning(error, "writing", key) from error
                last = error
            await asyncio.sleep(0.02 * 2**conflict * JITTER.uniform(0.5, 1.0))
        raise self._meaning(last, "writing", key) from last

    async def _remove(self, fs: Any, key: str) -> None:
        with self._translating("deleting", key):
            await self._ask(fs, "delete_object", "deleting", key)

    async def _page(self, fs: Any, prefix: str, mark: Any) -> tuple[Page, Any]:
        more = {"ContinuationToken": mark} if mark else {}
        with self._translating("listing", prefix):
            request = fs._call_s3("list_objects_v2", Bucket=self._location.bucket, Prefix=prefix, **more)
            answer = await self._in_time(request, "listing", prefix)
        page = [(each["Key"], each["Size"], each["LastModified"].timestamp()) for each in answer.get("Contents", [])]
        return page, answer.get("NextContinuationToken")

    async def _versioned(self, fs: Any) -> bool | None:
        try:
            request = fs._call_s3("get_bucket_versioning", Bucket=self._location.bucket)
            answer = await self._in_time(request, "reading", "")
        except Exception as error:
            if (status_of(error) or 0) in (400, 403, 404, 405, 501):
                return None  # it needs a separate permission, and not every service supports it
            raise self._meaning(error, "reading", "") from error
        return bool(answer.get("Status") == "Enabled")

    # -- payloads

    def _upload(self, key: str) -> Upload:
        return Upload(self, key)

    def _download(self, key: str) -> BinaryIO:
        return open_payload(self, key)

    def sweep(self, *, older_than: float) -> int:
        """Abort unfinished uploads older than a number of seconds, which are invisible but cost money."""
        return self._call(lambda fs: self._abort_uploads(fs, time.time() - older_than))

    async def _abort_uploads(self, fs: Any, before: float) -> int:
        bucket, root = self._location.bucket, self._location.prefix
        begun: list[dict[str, Any]] = []
        marks: dict[str, str] = {}
        with self._translating("listing", root):
            while True:
                request = fs._call_s3("list_multipart_uploads", Bucket=bucket, Prefix=root, **marks)
                answer = await self._in_time(request, "listing", root)
                begun += [each for each in answer.get("Uploads", []) if each["Initiated"].timestamp() <= before]
                if not answer.get("IsTruncated"):
                    break
                marks = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}
        for each in begun:
            with self._translating("deleting", each["Key"]):
                await self._ask(fs, "abort_multipart_upload", "deleting", each["Key"], UploadId=each["UploadId"])
        return len(begun)

    async def _ask(self, fs: Any, method: str, doing: str, key: str, **more: Any) -> Any:
        """Return the answer to a request about an object. Raises the client's errors, and `StoreUnreachable` at the
        deadline."""
        body = more.get("Body", b"")
        size = len(body) if isinstance(body, bytes) else body.getbuffer().nbytes
        if isinstance(body, io.BytesIO):
            body.seek(0)  # it may have been read by an earlier attempt
        request = fs._call_s3(method, Bucket=self._location.bucket, Key=key, **more)
        return await self._in_time(request, doing, key, size)

    # -- errors

    def _meaning(self, error: BaseException, doing: str, key: str) -> StoreError:
        return meaning(error, doing, bucket=self._location.bucket, where=self._location.path(key))

    @contextmanager
    def _translating(self, doing: str, key: str) -> Iterator[None]:
        """Translate exceptions of the client in the block."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            raise self._meaning(error, doing, key) from error


async def _beginning(body: Any, most: int) -> bytes:
    """Read at most `most` bytes of an answer, with several reads if needed."""
    data = b""
    while len(data) < most and (more := await body.read(most - len(data))):
        data += more
    return data


def _configured_endpoint(profile: str | None) -> str | None:
    """Return the user's custom endpoint from botocore's configuration."""
    from botocore.session import Session

    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if named or os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") == "true":
        return named
    found: str | None = Session(profile=profile).get_scoped_config().get("endpoint_url")
    return found
