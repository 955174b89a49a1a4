"""Digests of results: computed at once, while the result is written, or part by part."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from penstock.digests.python import combine, digest
from penstock.errors import DigestError
from penstock.storage.formats.sizes import nbytes_of

if TYPE_CHECKING:
    from penstock.storage.formats.parts.manifests import Digests

LARGE_BYTES = 8 * 2**20
"""Results of at least this size are digested while they are written."""


def digested(value: Any) -> Callable[[], str | None]:
    """Return a function that returns the digest of a result, or None if it has none.

    The digest of a large result is computed in another thread while the value is written.
    """
    if nbytes_of(value) < LARGE_BYTES:
        known = digest_of(value)
        return lambda: known
    from concurrent.futures import ThreadPoolExecutor  # slow to import, and only needed by large results

    pool = ThreadPoolExecutor(1, "penstock-digest")
    digested = pool.submit(contextvars.copy_context().run, digest_of, value)
    pool.shutdown(wait=False)
    return digested.result


def digest_of(value: Any) -> str | None:
    """Return the digest of a result, or None if it has none."""
    try:
        return digest(value)
    except DigestError:
        return None  # the attempt identifies the result instead, which is correct but prevents early cutoff


def is_stream(value: Any) -> bool:
    """Return whether a result only has a digest in its stored form: it is read once, or never whole in memory."""
    if issubclass(type(value), GeneratorType) or hasattr(value, "read_next_batch"):
        return True
    if type(value).__module__.partition(".")[0] not in ("dask", "ray", "pyarrow"):
        return False
    from penstock.storage.formats.parts.datasets import (
        is_dataset,  # only needed by tables
    )

    return is_dataset(value)


def no_digest() -> None:
    """Return None, the digest of a stream: it would only be known once the stream is consumed."""


def part_digests() -> Digests:
    """Return how to digest a value in parts: each part where it is written."""
    from penstock.storage.formats.parts.manifests import Digests  # only needed by values in parts

    return Digests(digest_of, _whole_digest)


def _whole_digest(parts: Sequence[str]) -> str:
    return combine("parts", parts)
