"""Digests of time zones outside the standard library, and the zone names of pandas' columns."""

from __future__ import annotations

import datetime
from typing import Any

from penstock.digests.walk import UndigestibleError, Walk, hash_node, hash_type


def zone_name(zone: Any) -> str:
    """Return the name of a zone, the same for `zoneinfo` and pytz: `Europe/Berlin`, `UTC`, `UTC+02:00`."""
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if isinstance(name, str):
        return name
    if isinstance(zone, datetime.timezone) or type(zone).__module__.partition(".")[0] == "pytz":
        offset = zone.utcoffset(None)
        if offset is not None:
            return str(datetime.timezone(offset))
    raise UndigestibleError(
        f"a time zone of type {type(zone).__qualname__} has no stable digest",
        because="it has no name that means the same zone on another machine",
    )


def pytz_zone(value: Any, walk: Walk) -> bytes:
    """Return the digest of a pytz zone, which has one object for each of its offsets, so the offset counts."""
    offset = (getattr(value, "_utcoffset", None) or value.utcoffset(None), getattr(value, "_dst", None))
    return hash_node(b"pytz", (hash_type(_class(value)), walk.of(value.zone), walk.of(offset)))


def _class(value: Any) -> type:
    # pytz creates a class for each zone
    return next(base for base in type(value).__mro__ if base.__module__.startswith("pytz"))
