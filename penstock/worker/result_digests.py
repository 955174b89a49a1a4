"""Digests of results: at once, while they are written, or part by part where they are."""

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
"""From this size on a result is digested and written at the same time."""


def digested(value: Any) -> Callable[[], str | None]:
    """The digest of a result, or None if it has none; of a large one it is computed while the value is written."""
    if nbytes_of(value) < LARGE_BYTES:
        known = digest_of(value)
        return lambda: known
    from concurrent.futures import ThreadPoolExecutor  # the time it takes to import is for large results

    pool = ThreadPoolExecutor(1, "penstock-digest")
    digested = pool.submit(contextvars.copy_context().run, digest_of, value)
    pool.shutdown(wait=False)
    return digested.result


def digest_of(value: Any) -> str | None:
    """The digest of a result, or None if it has none."""
    try:
        return digest(value)
    except DigestError:
        return None  # the result is known by its attempt instead: sound, only without early cutoff


def is_stream(value: Any) -> bool:
    """Whether only the stored form of a result has a digest: it is read once, or nobody has it as a whole."""
    if issubclass(type(value), GeneratorType) or hasattr(value, "read_next_batch"):
        return True
    if type(value).__module__.partition(".")[0] not in ("dask", "ray", "pyarrow"):
        return False
    from penstock.storage.formats.parts.datasets import (
        is_dataset,  # the formats of tables are for those who have tables
    )

    return is_dataset(value)


def no_digest() -> None:
    """Of a stream: its digest would be known when it is gone."""


def part_digests() -> Digests:
    """How a value that nobody has as a whole is digested: by its parts, each where it is written."""
    from penstock.storage.formats.parts.manifests import Digests  # files in parts are for large results

    return Digests(digest_of, _whole_digest)


def _whole_digest(parts: Sequence[str]) -> str:
    return combine("parts", parts)
