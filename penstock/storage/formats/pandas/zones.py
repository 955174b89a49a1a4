"""Time zones of pandas' columns, by the package they are of: equal times of another package are other values."""

from __future__ import annotations

import datetime as dt
import importlib.util
import zoneinfo
from typing import Any

from penstock.imported import loaded
from penstock.storage.formats.typed.nodes import from_node, to_node


def encode_zone(zone: Any) -> Any:
    """The zone in typed JSON. Raises `Unkept` for one that has no name."""
    pytz = loaded("pytz")
    if pytz is not None and isinstance(zone, pytz.tzinfo.BaseTzInfo) and pytz.timezone(zone.zone) == zone:
        return {"pytz": zone.zone}
    if type(zone).__module__ == "pytz" and type(zone).__name__ == "_FixedOffset":
        return {"pytz": zone.utcoffset(None) // dt.timedelta(minutes=1)}
    if type(zone).__module__.startswith("dateutil.tz") and type(zone).__name__ == "tzutc":
        return {"dateutil": "UTC"}
    return {"zone": to_node(zone)}


def decode_zone(node: Any) -> Any:
    """The zone again; of the standard library where its package is not installed."""
    if "zone" in node:
        zone = from_node(node["zone"])
        if not isinstance(zone, (dt.timezone, zoneinfo.ZoneInfo)):
            raise TypeError(f"a {type(zone).__name__} is no time zone")
        return zone
    if "dateutil" in node:
        return importlib.import_module("dateutil.tz").UTC
    name = node["pytz"]
    if importlib.util.find_spec("pytz") is None:
        # What pandas makes of the same name where it does without this package.
        return dt.timezone(dt.timedelta(minutes=name)) if isinstance(name, int) else zoneinfo.ZoneInfo(name)
    pytz = importlib.import_module("pytz")
    return pytz.FixedOffset(name) if isinstance(name, int) else pytz.timezone(name)
