"""Validate the fields of lock objects, which any program may have written: their types and bounds.

A field that decides which session holds a key must be valid, or the object is damaged. A field for display only (the
holder's host, the time) is left out if it is invalid, so that it never frees a lock that is held.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, TypeGuard

from penstock.errors import ConfigurationError, LockError
from penstock.locks.sessions import checked_lease
from penstock.process.identity import ProcessIdentity

FORMAT = 1
LAST_NUMBER = 10**15
"""The highest number of an epoch, which no lock reaches. An epoch beyond it belongs to no session."""
LAST_TOKEN = 1 << 62
"""The highest token: as a time in microseconds, about 146 000 years from 1970."""
_LAST_COUNT = 1 << 62
_LAST_MOMENT = 1e11
_LATEST_FORMAT = 1 << 31
_NAME = re.compile(r"[0-9A-Za-z_-]{1,64}")
_WHOLE = re.compile(r"[0-9]{1,19}")


class Damaged(ValueError):
    """A field has a value that no version of Penstock writes."""


def fields_of(data: bytes | str, what: str) -> dict[str, Any]:
    """Return the fields of a lock object; none if it is damaged.

    Args:
        data: The object as JSON.
        what: What it is, for messages.

    Raises:
        LockError: Another version of Penstock wrote it in another format.
    """
    try:
        fields = json.loads(data)
        version = fields["v"]
    except (IndexError, KeyError, TypeError, ValueError, RecursionError):
        return {}
    if type(version) is not int or not 0 <= version < _LATEST_FORMAT:
        return {}
    if version != FORMAT:
        raise LockError(
            f"{what} cannot be read",
            because=f"it is of format {version}, and this version reads {FORMAT}",
            hint="use the same version of Penstock in all processes that share locks",
        )
    found: dict[str, Any] = fields
    return found


def identity(said: Any) -> str:
    """Return the id of a session, which is part of names. Raises `Damaged`, like the following functions."""
    if not isinstance(said, str) or not _NAME.fullmatch(said):
        raise Damaged("no session has this id")
    return said


def count(said: Any) -> int:
    """Return a counter."""
    if type(said) is not int or not 0 <= said <= _LAST_COUNT:
        raise Damaged("no count")
    return said


def token(text: str) -> int:
    """Return a fencing token."""
    if not _WHOLE.fullmatch(text) or not 0 < int(text) <= LAST_TOKEN:
        raise Damaged("no token")
    return int(text)


def lease(said: Any) -> float:
    """Return a lease, in seconds."""
    try:
        return checked_lease(said)
    except ConfigurationError:
        raise Damaged("no lease") from None


def process(said: Any) -> ProcessIdentity:
    """Return the identity of a process."""
    try:
        return ProcessIdentity(**said)
    except TypeError:
        raise Damaged("no process") from None


def info(said: Any) -> dict[str, str]:
    """Return what a session states about itself, without values that are not text."""
    if not isinstance(said, dict):
        return {}
    return {name: value for name, value in said.items() if isinstance(name, str) and isinstance(value, str)}


def moment(said: Any) -> float:
    """Return a time in seconds since the epoch; 0 if it is invalid."""
    return float(said) if _is_number(said) and abs(said) < _LAST_MOMENT else 0.0


def _is_number(said: Any) -> TypeGuard[int | float]:
    return type(said) is int or (type(said) is float and math.isfinite(said))
