"""Names of records, payloads and recipe entries in a store."""

from __future__ import annotations

import functools
import re

from blake3 import blake3

from penstock.errors import StoreError

_PLAIN = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,98}[a-z0-9_-])?")
_ATTEMPT = re.compile(r"(?!record\Z)[a-z0-9_-]{1,64}")
_SUFFIX = re.compile(r"(?:\.[a-z0-9]{1,16}){1,2}")
_PART_SUFFIX = re.compile(r"\.[a-z0-9]{1,16}(\.gz)?")
_MARK = re.compile(r"[0-9a-f]{8}")


def segment(text: str) -> str:
    """Return a path segment for any string, different for different strings even if case is ignored.

    Plain lower-case text (with dots, dashes and underscores inside) and hex keys are unchanged. Anything else becomes a
    readable prefix, `~` and 128 bits of its hash; plain text never contains `~`.
    """
    if _PLAIN.fullmatch(text):
        return text
    readable = re.sub(r"[^a-z0-9_-]", "_", text[:40].lower())
    return f"{readable}~{blake3(text.encode('utf-8', 'surrogatepass')).hexdigest(16)}"


_task_segment = functools.lru_cache(maxsize=1024)(segment)
"""Cached, since a task may have thousands of keys."""


def key_folder(task: str, key: str) -> str:
    return f"results/{_task_segment(task)}/{segment(key)}/"


def slot_name(task: str, key: str, generation: int) -> str:
    return f"results/{_task_segment(task)}/{segment(key)}/{generation:06d}.record.json"


def slot_in(folder: str, generation: int) -> str:
    """Return the `slot_name` in a folder of `key_folder`."""
    return f"{folder}{generation:06d}.record.json"


def payload_name(task: str, key: str, generation: int, attempt: str, suffix: str) -> str:
    """Return the name of a payload. Raises `StoreError` if the attempt or suffix is not valid in a file name."""
    if not _ATTEMPT.fullmatch(attempt) or not _SUFFIX.fullmatch(suffix):
        raise _refused(attempt, suffix)
    return f"results/{segment(task)}/{segment(key)}/{generation:06d}.{attempt}{suffix}"


def attempt_prefix(task: str, key: str, generation: int, attempt: str) -> str:
    """Return the prefix of the names of all files of an attempt. Raises the error of `payload_name`."""
    if not _ATTEMPT.fullmatch(attempt):
        raise _refused(attempt, "")
    return f"results/{segment(task)}/{segment(key)}/{generation:06d}.{attempt}."


def part_name(prefix: str, number: int, mark: str, suffix: str = ".parquet") -> str:
    """Return the name of a part, given the `attempt_prefix`. Raises the error of `payload_name`."""
    if not _MARK.fullmatch(mark) or number < 0 or not _PART_SUFFIX.fullmatch(suffix):
        raise _refused(mark, f"{number}{suffix}")
    return f"{prefix}{number:06d}-{mark}{suffix}"


def _refused(attempt: str, suffix: str) -> StoreError:
    return StoreError(
        f"refused the payload name {attempt!r} + {suffix!r}", because="it could be the name of another file"
    )


def decision_name(transaction: str) -> str:
    """Return the name of the decision about an outermost transaction. Raises `StoreError` if its id is not valid."""
    if not _ATTEMPT.fullmatch(transaction):
        raise StoreError(f"refused the transaction {transaction!r}", because="it could be the name of another file")
    return f"transactions/{transaction}/decision.json"


def recipe_name(recipe: str) -> str:
    return f"recipes/{blake3(recipe.encode('utf-8', 'surrogatepass')).hexdigest(1)}/{segment(recipe)}.json"
