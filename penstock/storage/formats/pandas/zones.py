"""Time zones of pandas columns with their package: equal times with zones of different packages differ."""

from __future__ import annotations

import datetime as dt
import importlib.util
import zoneinfo
from typing import Any

from penstock.imported import loaded
from penstock.storage.formats.typed.nodes import from_node, to_node


def encode_zone(zone: Any) -> Any:
    """Encode a zone in typed JSON. Raises `Unkept` if it has no name."""
    pytz = loaded("pytz")
    if pytz is not None and isinstance(zone, pytz.tzinfo.BaseTzInfo) and pytz.timezone(zone.zone) == zone:
        return {"pytz": zone.zone}
    if type(zone).__module__ == "pytz" and type(zone).__name__ == "_FixedOffset":
        return {"pytz": zone.utcoffset(None) // dt.timedelta(minutes=1)}
    if type(zone).__module__.startswith("dateutil.tz") and type(zone).__name__ == "tzutc":
        return {"dateutil": "UTC"}
    return {"zone": to_node(zone)}


def decode_zone(node: Any) -> Any:
    """Restore a zone; from the standard library if its package is not installed."""
    if "zone" in node:
        zone = from_node(node["zone"])
        if not isinstance(zone, (dt.timezone, zoneinfo.ZoneInfo)):
            raise TypeError(f"a {type(zone).__name__} is not a time zone")
        return zone
    if "dateutil" in node:
        return importlib.import_module("dateutil.tz").UTC
    name = node["pytz"]
    if importlib.util.find_spec("pytz") is None:
        # The zone that pandas creates from this name without the package.
        return dt.timezone(dt.timedelta(minutes=name)) if isinstance(name, int) else zoneinfo.ZoneInfo(name)
    pytz = importlib.import_module("pytz")
    return pytz.FixedOffset(name) if isinstance(name, int) else pytz.timezone(name)
