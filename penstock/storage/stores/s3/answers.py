"""Translating answers and timeouts of S3 by HTTP status, never by the class of an exception."""

from __future__ import annotations

from typing import Any

from penstock.errors import StoreError, StoreFull, StoreNotWritable, StoreRefused, StoreUnreachable

_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "RequestTimeTooSkewed",
}
_PERMISSIONS = {
    "reading": "s3:GetObject and s3:ListBucket",  # without the second, a missing object is a 403 instead of a 404
    "listing": "s3:ListBucket",
    "writing": "s3:PutObject",
    "deleting": "s3:DeleteObject",
}


def meaning(error: BaseException, doing: str, *, bucket: str, where: str) -> StoreError:
    """Translate an exception of the client to an error of the store."""
    if isinstance(error, StoreError):
        return error
    status, code = status_of(error), _code(error)
    because = " ".join(f"{code} {_said(error)}".split())
    if status is None and _of_configuration(error):
        return StoreRefused(
            "the bucket cannot be accessed with the present configuration",
            where=where,
            because=because,
            hint="set credentials where boto3 finds them: AWS_PROFILE, AWS_ACCESS_KEY_ID, ~/.aws, or a role",
        )
    if status is None or status in (408, 409, 429) or (status >= 500 and status != 501):
        return StoreUnreachable(f"{doing} failed", where=where, because=because, status=status)
    if code in ("QuotaExceeded", "InsufficientStorage", "EntityTooLarge"):
        return StoreFull("the bucket is full", where=where, because=because, status=status)
    if code == "NoSuchBucket":
        return StoreRefused(
            f"there is no bucket {bucket}",
            where=where,
            because=because,
            hint="create it, since Penstock does not, or correct the store's address or AWS_ENDPOINT_URL",
            status=status,
        )
    if status == 403 and code in _CREDENTIALS:
        return StoreRefused(
            "the credentials are not accepted",
            where=where,
            because=because,
            hint="run `aws sts get-caller-identity` to see which credentials are used",
            status=status,
        )
    if status in (401, 403):
        kind = StoreRefused if doing in ("reading", "listing") else StoreNotWritable
        return kind(
            f"{doing} is not allowed in the bucket {bucket}",
            where=where,
            because=because,
            hint=f"grant the permission {_PERMISSIONS[doing]}",
            status=status,
        )
    return StoreRefused(f"{doing} was refused", where=where, because=because, status=status)


# -- exceptions -------------------------------------------------------------------------------------------------------


def _response(error: BaseException) -> dict[str, Any] | None:
    """Return the answer behind an exception, since s3fs wraps the client's exceptions."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict) and "Error" in response:
            return response
        seen = seen.__cause__
    return None


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of an answer, or None if there was no answer."""
    response = _response(error)
    status = (response or {}).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(status) if status else None


def _code(error: BaseException) -> str:
    response = _response(error)
    return str(response["Error"].get("Code", "")) if response else type(error).__name__


def _said(error: BaseException) -> str:
    response = _response(error)
    return str(response["Error"].get("Message", "")) if response else str(error)


def is_missing_key(error: BaseException) -> bool:
    return status_of(error) == 404 and _code(error) in ("NoSuchKey", "404", "NotFound")


def is_broken_off(error: BaseException) -> bool:
    from aiohttp import ClientPayloadError
    from botocore.exceptions import IncompleteReadError, ResponseStreamingError

    return isinstance(error, (EOFError, ClientPayloadError, IncompleteReadError, ResponseStreamingError))


def _of_configuration(error: BaseException) -> bool:
    """Return whether the client did not send the request because of its configuration."""
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
