"""Typed JSON of Python's own types: encoding and decoding each of them."""

from __future__ import annotations

import array
import base64
import collections
import datetime as dt
import decimal
import fractions
import ipaddress
import pathlib
import re
import types
import uuid
import zoneinfo
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from penstock.storage.formats.typed.walk import (
    Decoder,
    Encoder,
    Form,
    Maker,
    is_text,
    make_float,
    special_float,
)

# -- containers


def _list(value: list[Any], encoder: Encoder) -> Any:
    return encoder.once(value, lambda value, encoder: [encoder.at((i,), f"[{i}]", v) for i, v in enumerate(value)])


def _items(tag: str, value: Iterable[Any], encoder: Encoder) -> dict[str, Any]:
    return {tag: [encoder.at((tag, i), f"[{i}]", item) for i, item in enumerate(value)]}


def _elements(tag: str, value: Any, encoder: Encoder) -> dict[str, Any]:
    """Encode the elements of a set in the order of their encoded forms, so that equal sets have equal forms."""
    with encoder.trying():
        forms = [(msgspec.json.encode(encoder.at((tag, 0), ".<element>", item)), item) for item in value]
    forms.sort(key=lambda pair: pair[0])
    return {tag: [encoder.at((tag, i), ".<element>", item) for i, (_, item) in enumerate(forms)]}


def _dict(value: dict[Any, Any], encoder: Encoder) -> Any:
    return encoder.once(value, _plain_dict)


def _plain_dict(value: dict[Any, Any], encoder: Encoder) -> Any:
    if all(type(key) is str and key[:1] != "$" and is_text(key) for key in value):
        return {key: encoder.at((key,), f"[{key!r}]", item) for key, item in value.items()}
    return {"$dict": pairs("$dict", value, encoder)}


def pairs(tag: str, value: Any, encoder: Encoder) -> list[list[Any]]:
    """Encode the items of a mapping, in order."""
    return [
        [encoder.at((tag, i, 0), ".<key>", key), encoder.at((tag, i, 1), f"[{_shown(key)}]", item)]
        for i, (key, item) in enumerate(value.items())
    ]


def _shown(key: Any) -> str:
    # The repr of a user's object may be long, slow or raise.
    return repr(key) if type(key) in (str, int, bool, bytes, tuple, float, type(None)) else type(key).__qualname__


def _made_pairs(node: Any, decoder: Decoder) -> list[tuple[Any, Any]]:
    return [(decoder.value(key), decoder.value(item)) for key, item in node]


def _without_attributes(value: Any, encoder: Encoder) -> None:
    if getattr(value, "__dict__", None):
        raise encoder.unkept(value, "it has additional attributes")


def _ordered_dict(value: Any, encoder: Encoder) -> Any:
    _without_attributes(value, encoder)
    return encoder.once(value, lambda value, encoder: {"$ordereddict": pairs("$ordereddict", value, encoder)})


def _default_dict(value: Any, encoder: Encoder) -> Any:
    def form(value: Any, encoder: Encoder) -> Any:
        held = pairs("$defaultdict", value, encoder)
        return {"$defaultdict": held, "factory": encoder.at(("factory",), ".default_factory", value.default_factory)}

    return encoder.once(value, form)


def _counter(value: Any, encoder: Encoder) -> Any:
    _without_attributes(value, encoder)
    return encoder.once(value, lambda value, encoder: {"$counter": pairs("$counter", value, encoder)})


def _make_counter(node: Any, decoder: Decoder) -> Any:
    made: Any = collections.Counter()
    for key, count in _made_pairs(node["$counter"], decoder):
        dict.__setitem__(made, key, count)
    return made


def _deque(value: Any, encoder: Encoder) -> Any:
    bound = {} if value.maxlen is None else {"maxlen": value.maxlen}
    return encoder.once(value, lambda value, encoder: _items("$deque", value, encoder) | bound)


def _fold(value: Any) -> dict[str, int]:
    return {"fold": 1} if value.fold else {}


# -- times


def zone_form(zone: Any, encoder: Encoder) -> Any:
    """Return the form of a time zone: the name of a system zone, or a fixed offset."""
    if type(zone) is zoneinfo.ZoneInfo and zone.key is not None:
        encoder.unproven = True
        return zone.key
    return encoder.value(zone)


def make_zone(node: Any, decoder: Decoder) -> Any:
    return zoneinfo.ZoneInfo(node) if type(node) is str else decoder.value(node)


def _moment(tag: str, value: Any, encoder: Encoder) -> dict[str, Any]:
    zone = value.tzinfo
    if zone is None or (type(zone) is dt.timezone and len(_arguments(zone)) == 1):
        return {tag: value.isoformat()} | _fold(value)
    naive = value.replace(tzinfo=None, fold=0).isoformat()
    return {tag: naive, "zone": zone_form(zone, encoder)} | _fold(value)


def _make_moment(kind: Any, tag: str) -> Maker:
    def maker(node: Any, decoder: Decoder) -> Any:
        made = kind.fromisoformat(node[tag])
        zone = make_zone(node["zone"], decoder) if "zone" in node else made.tzinfo
        return made.replace(tzinfo=zone, fold=node.get("fold", 0))

    return maker


def _arguments(zone: Any) -> tuple[Any, ...]:
    """Return the offset of a `timezone`, and its name if it has one."""
    found: tuple[Any, ...] = zone.__getinitargs__()
    return found


def _timezone(value: dt.timezone, encoder: Encoder) -> dict[str, Any]:
    offset, *name = _arguments(value)
    return {"$timezone": [offset.days, offset.seconds, offset.microseconds], **({"name": name[0]} if name else {})}


def _make_timezone(node: Any, _: Decoder) -> dt.timezone:
    offset = dt.timedelta(*node["$timezone"])
    return dt.timezone(offset, node["name"]) if "name" in node else dt.timezone(offset)


def _zone(value: zoneinfo.ZoneInfo, encoder: Encoder) -> dict[str, Any]:
    if value.key is None:
        raise encoder.unkept(value, "it is not a zone with a name")
    encoder.unproven = True
    return {"$zoneinfo": value.key}


# -- the rest


def _text(tag: str, text: Callable[[Any], str] = str) -> Form:
    return lambda value, encoder: {tag: text(value)}


def _from_text(kind: Callable[[str], Any]) -> Maker:
    return lambda node, _: kind(next(iter(node.values())))


def _system_path(value: pathlib.Path, encoder: Encoder) -> dict[str, Any]:
    encoder.paths.append(value)
    return {"$path": encoder.value(str(value))}


def _path(tag: str) -> Form:
    return lambda value, encoder: {tag: encoder.value(str(value))}


def _uuid(value: uuid.UUID, encoder: Encoder) -> dict[str, Any]:
    safe = value.is_safe.value
    return {"$uuid": str(value)} | ({} if safe is None else {"safe": safe})


def _make_uuid(node: Any, _: Decoder) -> uuid.UUID:
    return uuid.UUID(node["$uuid"], is_safe=uuid.SafeUUID(node.get("safe")))


def _array(value: Any, encoder: Encoder) -> Any:
    code = value.typecode
    return encoder.once(
        value, lambda value, encoder: {"$array": code, "values": [encoder.value(item) for item in value.tolist()]}
    )


def _base64(value: Any) -> str:
    return base64.b64encode(value).decode()


def _number(value: float) -> Any:
    return value if value - value == 0 else special_float(value)


def _make_number(node: Any) -> float:
    return make_float(node["$float"]) if type(node) is dict else node


_CONSTANTS = {"Ellipsis": ..., "NotImplemented": NotImplemented, "UNSET": msgspec.UNSET}


def _constant(value: Any, encoder: Encoder) -> dict[str, Any]:
    return {"$constant": next(name for name, constant in _CONSTANTS.items() if constant is value)}


FORMS: dict[type, Form] = {
    list: _list,
    dict: _dict,
    tuple: lambda value, encoder: _items("$tuple", value, encoder),
    set: lambda value, encoder: encoder.once(value, lambda value, encoder: _elements("$set", value, encoder)),
    frozenset: lambda value, encoder: _elements("$frozenset", value, encoder),
    collections.OrderedDict: _ordered_dict,
    collections.defaultdict: _default_dict,
    collections.Counter: _counter,
    collections.deque: _deque,
    types.MappingProxyType: lambda value, encoder: {
        "$mappingproxy": encoder.at(("$mappingproxy",), ".<mapping>", dict(value))
    },
    types.SimpleNamespace: lambda value, encoder: encoder.once(
        value, lambda value, encoder: {"$namespace": encoder.at(("$namespace",), ".__dict__", vars(value))}
    ),
    array.array: _array,
    bytes: _text("$bytes", _base64),
    bytearray: lambda value, encoder: encoder.once(value, _text("$bytearray", _base64)),
    complex: lambda value, encoder: {"$complex": [_number(value.real), _number(value.imag)]},
    range: lambda value, encoder: {"$range": [encoder.value(n) for n in (value.start, value.stop, value.step)]},
    slice: lambda value, encoder: {
        "$slice": [
            encoder.at(("$slice", i), f".{name}", getattr(value, name))
            for i, name in enumerate(("start", "stop", "step"))
        ]
    },
    dt.date: _text("$date", dt.date.isoformat),
    dt.datetime: lambda value, encoder: _moment("$datetime", value, encoder),
    dt.time: lambda value, encoder: _moment("$time", value, encoder),
    dt.timedelta: lambda value, encoder: {"$timedelta": [value.days, value.seconds, value.microseconds]},
    dt.timezone: _timezone,
    zoneinfo.ZoneInfo: _zone,
    decimal.Decimal: _text("$decimal"),
    fractions.Fraction: lambda value, encoder: {
        "$fraction": [encoder.value(value.numerator), encoder.value(value.denominator)]
    },
    uuid.UUID: _uuid,
    type(pathlib.Path()): _system_path,
    pathlib.PurePosixPath: _path("$pureposixpath"),
    pathlib.PureWindowsPath: _path("$purewindowspath"),
    re.Pattern: lambda value, encoder: {"$pattern": encoder.value(value.pattern), "flags": value.flags},
    type(...): _constant,
    type(NotImplemented): _constant,
    msgspec.UnsetType: _constant,
}
MAKERS: dict[str, Maker] = {
    "$str": lambda node, _: bytes.fromhex(node["$str"]).decode("utf-16-le", "surrogatepass"),
    "$int": lambda node, _: int(node["$int"], 16),
    "$float": lambda node, _: make_float(node["$float"]),
    "$dict": lambda node, decoder: dict(_made_pairs(node["$dict"], decoder)),
    "$tuple": lambda node, decoder: tuple([decoder.value(item) for item in node["$tuple"]]),
    "$set": lambda node, decoder: {decoder.value(item) for item in node["$set"]},
    "$frozenset": lambda node, decoder: frozenset([decoder.value(item) for item in node["$frozenset"]]),
    "$ordereddict": lambda node, decoder: collections.OrderedDict(_made_pairs(node["$ordereddict"], decoder)),
    "$defaultdict": lambda node, decoder: _make_default_dict(node, decoder),
    "$counter": _make_counter,
    "$deque": lambda node, decoder: collections.deque(
        [decoder.value(item) for item in node["$deque"]], node.get("maxlen")
    ),
    "$mappingproxy": lambda node, decoder: types.MappingProxyType(decoder.value(node["$mappingproxy"])),
    "$namespace": lambda node, decoder: _make_namespace(node, decoder),
    "$array": lambda node, decoder: array.array(node["$array"], [decoder.value(item) for item in node["values"]]),
    "$bytes": lambda node, _: base64.b64decode(node["$bytes"], validate=True),
    "$bytearray": lambda node, _: bytearray(base64.b64decode(node["$bytearray"], validate=True)),
    "$complex": lambda node, _: complex(*map(_make_number, node["$complex"])),
    "$range": lambda node, decoder: range(*map(decoder.value, node["$range"])),
    "$slice": lambda node, decoder: slice(*map(decoder.value, node["$slice"])),
    "$date": lambda node, _: dt.date.fromisoformat(node["$date"]),
    "$datetime": _make_moment(dt.datetime, "$datetime"),
    "$time": _make_moment(dt.time, "$time"),
    "$timedelta": lambda node, _: dt.timedelta(*node["$timedelta"]),
    "$timezone": _make_timezone,
    "$zoneinfo": lambda node, _: zoneinfo.ZoneInfo(node["$zoneinfo"]),
    "$decimal": lambda node, _: decimal.Decimal(node["$decimal"]),
    "$fraction": lambda node, decoder: fractions.Fraction(*map(decoder.value, node["$fraction"])),
    "$uuid": _make_uuid,
    "$path": lambda node, decoder: pathlib.Path(decoder.value(node["$path"])),
    "$pureposixpath": lambda node, decoder: pathlib.PurePosixPath(decoder.value(node["$pureposixpath"])),
    "$purewindowspath": lambda node, decoder: pathlib.PureWindowsPath(decoder.value(node["$purewindowspath"])),
    "$pattern": lambda node, decoder: re.compile(decoder.value(node["$pattern"]), node["flags"]),
    "$constant": lambda node, decoder: _CONSTANTS[node["$constant"]],
}
for _kind in (
    ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network,
    ipaddress.IPv4Interface, ipaddress.IPv6Interface,
):  # fmt: skip
    FORMS[_kind] = _text(f"${_kind.__name__.lower()}")
    MAKERS[f"${_kind.__name__.lower()}"] = _from_text(_kind)


def _make_default_dict(node: Any, decoder: Decoder) -> Any:
    held = _made_pairs(node["$defaultdict"], decoder)
    return collections.defaultdict(decoder.value(node["factory"]), held)


def _make_namespace(node: Any, decoder: Decoder) -> Any:
    made = types.SimpleNamespace()
    vars(made).update(decoder.value(node["$namespace"]))
    return made
