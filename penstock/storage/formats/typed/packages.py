"""Typed JSON of numpy and pandas scalars, preserving dtype, unit and time zone."""

from __future__ import annotations

import math
from typing import Any

from penstock.storage.formats.typed.plain import make_zone, zone_form
from penstock.storage.formats.typed.walk import Decoder, Encoder, Form, Maker


def form_of(kind: type) -> Form | None:
    """Return the form of a scalar type of these packages, or None."""
    package = kind.__module__.partition(".")[0]
    if package == "numpy":
        import numpy as np

        known = issubclass(kind, np.generic) and kind.__module__ == "numpy" and kind.__name__ not in _UNKEPT
        return _numpy if known else None
    if package == "pandas":
        return _PANDAS.get(kind.__name__)
    return None


_UNKEPT = frozenset({"object_", "void", "longdouble", "clongdouble"})


def _numpy(value: Any, encoder: Encoder) -> Any:
    encoder.unproven = True
    kind = value.dtype.kind
    if kind in "mM":
        return {"$numpy": str(value.dtype), "value": int(value.astype("int64"))}
    name = "bool" if kind == "b" else type(value).__name__
    if kind == "f" and math.isnan(value):
        return {"$numpy": name, "value": {"$bytes": _bits(value)}}
    if kind in "SU":  # `item` drops NULs at the end
        held = str.__str__(value) if kind == "U" else bytes.__getitem__(value, slice(None))
        return {"$numpy": name, "value": encoder.value(held)}
    return {"$numpy": name, "value": encoder.value(value.item())}


def _bits(value: Any) -> str:
    import base64

    return base64.b64encode(value.astype(value.dtype.newbyteorder("<")).tobytes()).decode()


def _make_numpy(node: Any, decoder: Decoder) -> Any:
    import numpy as np

    name, held = node["$numpy"], decoder.value(node["value"])
    if name.startswith(("datetime64", "timedelta64")):
        return np.int64(held).astype(np.dtype(name))
    if name not in _NUMPY:
        raise ValueError(f"numpy has no plain scalar type {name!r}")
    kind = np.bool_ if name == "bool" else getattr(np, name)
    if type(held) is bytes and name != "bytes_":
        return np.frombuffer(held, np.dtype(kind).newbyteorder("<"))[0].astype(kind)
    return kind(held)


_NUMPY = frozenset({
    "bool", "str_", "bytes_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "longlong", "ulonglong",
    "float16", "float32", "float64", "complex64", "complex128",
})  # fmt: skip


def _timestamp(value: Any, encoder: Encoder) -> Any:
    encoder.unproven = True
    if value.tzinfo is None:
        return {"$timestamp": value.isoformat(), "unit": value.unit} | ({"fold": 1} if value.fold else {})
    at = value.tz_convert("UTC").isoformat()
    return {"$timestamp": at, "unit": value.unit, "zone": zone_form(value.tzinfo, encoder)}


def _make_timestamp(node: Any, decoder: Decoder) -> Any:
    import pandas as pd

    made = pd.Timestamp(node["$timestamp"]).as_unit(node["unit"])
    if "fold" in node:
        made = made.replace(fold=node["fold"])
    return made.tz_convert(make_zone(node["zone"], decoder)) if "zone" in node else made


def _timedelta(value: Any, encoder: Encoder) -> Any:
    encoder.unproven = True
    return {"$pandastimedelta": int(value.asm8.astype("int64")), "unit": value.unit}


def _make_timedelta(node: Any, _: Decoder) -> Any:
    import numpy as np
    import pandas as pd

    return pd.Timedelta(np.timedelta64(node["$pandastimedelta"], node["unit"])).as_unit(node["unit"])


def _interval(value: Any, encoder: Encoder) -> Any:
    encoder.unproven = True
    ends = [encoder.at(("$interval", i), f".{name}", getattr(value, name)) for i, name in enumerate(("left", "right"))]
    return {"$interval": ends, "closed": value.closed}


def _make_interval(node: Any, decoder: Decoder) -> Any:
    import pandas as pd

    return pd.Interval(*map(decoder.value, node["$interval"]), closed=node["closed"])


def _period(value: Any, encoder: Encoder) -> Any:
    encoder.unproven = True
    return {"$period": value.ordinal, "freq": value.freqstr, "text": str(value)}


def _make_period(node: Any, _: Decoder) -> Any:
    import pandas as pd

    return pd.Period(ordinal=node["$period"], freq=node["freq"])


def _make_missing(node: Any, _: Decoder) -> Any:
    import pandas as pd

    return {"NaT": pd.NaT, "NA": pd.NA}[node["$pandas"]]


_PANDAS: dict[str, Form] = {
    "Timestamp": _timestamp,
    "Timedelta": _timedelta,
    "Interval": _interval,
    "Period": _period,
    "NaTType": lambda value, encoder: {"$pandas": "NaT"},
    "NAType": lambda value, encoder: {"$pandas": "NA"},
}
MAKERS: dict[str, Maker] = {
    "$numpy": _make_numpy,
    "$timestamp": _make_timestamp,
    "$pandastimedelta": _make_timedelta,
    "$interval": _make_interval,
    "$period": _make_period,
    "$pandas": _make_missing,
}
