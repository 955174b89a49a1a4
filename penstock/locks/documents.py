"""What is read of lock objects, whoever wrote them: each field is of its type and within its bounds, or it is damaged.

What decides who holds a key has to be right. What only tells people of it (who that is, since when) is left out where
it is odd, so that no oddness ever frees a lock that is held.
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
"""No lock was ever passed on so often: an epoch with a number beyond this is nobody's, and this one has no next."""
LAST_TOKEN = 1 << 62
"""As a time in microseconds this is in 146 000 years."""
_LAST_COUNT = 1 << 62
_LAST_MOMENT = 1e11
_LATEST_FORMAT = 1 << 31
_NAME = re.compile(r"[0-9A-Za-z_-]{1,64}")
_WHOLE = re.compile(r"[0-9]{1,19}")


class Damaged(ValueError):
    """A field is not what any version of Penstock writes."""


def fields_of(data: bytes | str, what: str) -> dict[str, Any]:
    """The fields of a lock object, none if it is damaged; raises `LockError` if it is of another format."""
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
            hint="all that share locks need the same Penstock",
        )
    found: dict[str, Any] = fields
    return found


def identity(said: Any) -> str:
    """The id of a session, which is part of names. Raises `Damaged`, as the next ones do."""
    if not isinstance(said, str) or not _NAME.fullmatch(said):
        raise Damaged("no session has this id")
    return said


def count(said: Any) -> int:
    """A whole number that only grows."""
    if type(said) is not int or not 0 <= said <= _LAST_COUNT:
        raise Damaged("no count")
    return said


def token(text: str) -> int:
    """A fencing token."""
    if not _WHOLE.fullmatch(text) or not 0 < int(text) <= LAST_TOKEN:
        raise Damaged("no token")
    return int(text)


def lease(said: Any) -> float:
    """The seconds of a lease."""
    try:
        return checked_lease(said)
    except ConfigurationError:
        raise Damaged("no lease") from None


def process(said: Any) -> ProcessIdentity:
    """Which process it is."""
    try:
        return ProcessIdentity(**said)
    except TypeError:
        raise Damaged("no process") from None


def info(said: Any) -> dict[str, str]:
    """What a session tells of itself, without what is no text."""
    if not isinstance(said, dict):
        return {}
    return {name: value for name, value in said.items() if isinstance(name, str) and isinstance(value, str)}


def moment(said: Any) -> float:
    """A time in seconds since the epoch; 0 for what is none."""
    return float(said) if _is_number(said) and abs(said) < _LAST_MOMENT else 0.0


def _is_number(said: Any) -> TypeGuard[int | float]:
    return type(said) is int or (type(said) is float and math.isfinite(said))
