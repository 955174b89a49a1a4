"""Values of Python, its standard library and scalars of packages, each with a name and its codec.

The codec is `json/typed` unless stated otherwise; `json` is plain JSON. A `*` at the end of a
name marks a pickle, because the value is an arbitrary object.
"""

from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import fractions
import functools
import http
import ipaddress
import math
import pathlib
import re
import struct
import types
import uuid
import zoneinfo
from typing import Any

from tests.roundtrip import classes as c


def plain() -> dict[str, Any]:
    """Values that plain JSON restores."""
    return {
        "None": None,
        "True": True,
        "False": False,
        "0": 0,
        "-1": -1,
        "2**63": 2**63,
        "2**64": 2**64,
        "-10**30": -(10**30),
        "10**3999": 10**3999,
        "0.0": 0.0,
        "-0.0": -0.0,
        "0.1": 0.1,
        "1e308": 1e308,
        "5e-324": 5e-324,
        "1e16": 1e16,
        "empty str": "",
        "str": "text",
        "str with quotes": 'a"b\\c/\b\f\n\r\t',
        "str with controls": "\x00\x01\x1f\x7f\x80\u2028",
        "str of other planes": "ä€😀é",
        "str like a tag": "$tuple",
        "empty list": [],
        "list": [1, 2.5, "a", None, True],
        "nested list": [[], [[]], [[1], [2]]],
        "deep list": functools.reduce(lambda inner, _: [inner], range(300), 1),
        "empty dict": {},
        "dict": {"b": 1, "a": 2},
        "dict with the empty key": {"": 1},
        "dict like a tag": {"$tuple": [1, 2]},
        "dict with a tag inside": {"a": 1, "$dict": []},
        "records": [{"id": i, "name": f"n{i}"} for i in range(3)],
        "long list": list(range(2000)),
    }


def containers() -> dict[str, Any]:
    row, cell = [1], {"x": 1}
    return {
        "empty tuple": (),
        "tuple": (1, 2),
        "tuple of tuples": ((1, "a"), (2, "b")),
        "tuple in list": [(1, 2)],
        "list in tuple": ([1], {"a": (1,)}),
        "a tag inside tuple": ({"$tuple": [1]},),
        "empty set": set(),
        "set of int": {3, 1, 2},
        "set of str": {"b", "a"},
        "mixed set": {1, "a", None, (1, 2)},
        "set of nan": {math.nan},
        "frozenset": frozenset({1, 2}),
        "set of frozensets": {frozenset({1}), frozenset()},
        "dict of int keys": {3: "x", 1: "y"},
        "dict of mixed keys": {1: 1, "1": 2, 1.5: 3, None: 4, (1, 2): 5},
        "dict of bool keys": {True: "t", False: "f"},
        "dict of date keys": {dt.date(2026, 1, 2): 1},
        "dict of enum keys": {c.Color.RED: 1, c.Level.LOW: 2, c.Unit.METRE: 3},
        "dict of frozen keys": {c.Frozen(1): "a"},
        "dict of str and int keys": {"a": 1, 2: "b"},
        "dict of surrogate keys": {"\ud800": 1},
        "dict of tags and tuples": {"$x": (1,)},
        "bytes": b"raw\x00\xff",
        "empty bytes": b"",
        "bytearray": bytearray(b"ab"),
        "OrderedDict": collections.OrderedDict([("b", 1), ("a", 2)]),
        "OrderedDict of int keys": collections.OrderedDict({2: 1}),
        "defaultdict of list": collections.defaultdict(list, {"a": [1]}),
        "defaultdict of int": collections.defaultdict(int, {"a": 1}),
        "defaultdict of nothing": collections.defaultdict(None, {"a": 1}),
        "Counter": collections.Counter("hello"),
        "Counter with negatives": collections.Counter({"a": -1, "b": 0}),
        "deque": collections.deque([1, 2]),
        "bounded deque": collections.deque([1, 2], maxlen=3),
        "deque of none": collections.deque(maxlen=0),
        "mappingproxy": types.MappingProxyType({"a": (1,)}),
        "SimpleNamespace": types.SimpleNamespace(a=1, b=(2,)),
        "array of doubles": array.array("d", [1.5, -0.0, math.inf]),
        "array of int": array.array("i", [1, 2]),
        "empty array": array.array("B"),
        "shared list": [row, row],
        "shared dict": {"a": cell, "b": [cell]},
        "shared below odd keys": {"a/b": {"~0": cell}, "c": cell},
        "shared in tuples": ((row,), (row,)),
        "shared under other keys": {1: row, 2: row},
        "deep tuple": functools.reduce(lambda inner, _: (inner,), range(90), 1),
        "contains itself*": _circle(),
        "deeper than allowed*": functools.reduce(lambda inner, _: (inner,), range(150), 1),
        "a class like any other*": c.Plain(1),
        "in a list*": [1, c.Plain(1)],
        "a list of a kind of its own*": c.Row(a=1),
        "str of a kind of its own*": c.Name("a"),
        "int of a kind of its own*": c.Count(3),
        "defaultdict of a function*": collections.defaultdict(math.floor, {"a": 1}),
        "function*": math.floor,
        "partial*": functools.partial(int, base=2),
        "exception*": c.Problem("x"),
        "reduced*": c.Reduced(1),
    }


def _circle() -> list[Any]:
    circle: list[Any] = [1]
    circle.append(circle)
    return circle


def scalars() -> dict[str, Any]:
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    east = dt.timezone(dt.timedelta(hours=5, minutes=45))
    named = dt.timezone(dt.timedelta(hours=-3), "BRT")
    return {
        "nan": math.nan,
        "nan of other bits": struct.unpack(">d", bytes.fromhex("fff8000000000001"))[0],
        "inf": math.inf,
        "-inf": -math.inf,
        "list with nan": [1.0, math.nan],
        "10**5000": 10**5000,
        "-10**5000 in a dict": {"n": -(10**5000)},
        "lone surrogate": "a\ud800b",
        "list of surrogates": ["\udc80"],
        "complex": 1 + 2j,
        "complex of signs": complex(-0.0, -0.0),
        "complex of nan": complex(math.nan, math.inf),
        "date": dt.date(2026, 1, 2),
        "date.min": dt.date.min,
        "date.max": dt.date.max,
        "datetime": dt.datetime(2026, 1, 2, 3, 4, 5, 678901),
        "datetime.min": dt.datetime.min,
        "datetime.max": dt.datetime.max,
        "datetime of UTC": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        "datetime of an offset": dt.datetime(2026, 1, 2, 3, tzinfo=east),
        "datetime of a named offset": dt.datetime(2026, 1, 2, 3, tzinfo=named),
        "datetime of a zone": dt.datetime(2026, 7, 2, 3, tzinfo=berlin),
        "datetime of ZoneInfo UTC": dt.datetime(2026, 7, 2, 3, tzinfo=zoneinfo.ZoneInfo("UTC")),
        "datetime first in the fold": dt.datetime(2026, 10, 25, 2, 30, tzinfo=berlin),
        "datetime second in the fold": dt.datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=1),
        "datetime with a naive fold": dt.datetime(2026, 10, 25, 2, 30, fold=1),
        "datetime of an offset of seconds": dt.datetime(
            1890, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=3208, microseconds=5))
        ),
        "time": dt.time(3, 4, 5, 6),
        "time of UTC": dt.time(3, tzinfo=dt.UTC),
        "time of a zone": dt.time(3, tzinfo=berlin),
        "time of the fold": dt.time(3, fold=1),
        "timedelta": dt.timedelta(days=1, seconds=2, microseconds=3),
        "negative timedelta": dt.timedelta(microseconds=-1),
        "timedelta.max": dt.timedelta.max,
        "UTC": dt.UTC,
        "timezone": east,
        "named timezone": named,
        "named UTC": dt.timezone(dt.timedelta(0), "UTC"),
        "ZoneInfo": berlin,
        "Decimal 1.10": decimal.Decimal("1.10"),
        "Decimal 1E+3": decimal.Decimal("1E+3"),
        "Decimal -0.0": decimal.Decimal("-0.0"),
        "Decimal NaN": decimal.Decimal("NaN"),
        "Decimal sNaN": decimal.Decimal("-sNaN123"),
        "Decimal Infinity": decimal.Decimal("-Infinity"),
        "Decimal of many digits": decimal.Decimal("1." + "3" * 200),
        "list of Decimals": [decimal.Decimal("1.5"), decimal.Decimal("1.50")],
        "Fraction": fractions.Fraction(-1, 3),
        "UUID": uuid.UUID("12345678-1234-5678-1234-567812345678"),
        "safe UUID": uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe),
        "unsafe UUID": uuid.UUID(int=1, is_safe=uuid.SafeUUID.unsafe),
        "Path": pathlib.Path("a/b.txt"),
        "empty Path": pathlib.Path(),
        "absolute Path": pathlib.Path("/no/such/place"),
        "Path of odd bytes": pathlib.Path("a\udcff"),
        "PurePosixPath": pathlib.PurePosixPath("/x/y"),
        "PureWindowsPath": pathlib.PureWindowsPath("C:/x/y"),
        "range": range(3),
        "range with a step": range(10, 0, -3),
        "huge range": range(10**40),
        "slice": slice(1, None),
        "slice of str": slice("a", "b", None),
        "Ellipsis": ...,
        "NotImplemented": NotImplemented,
        "IPv4Address": ipaddress.ip_address("10.0.0.1"),
        "IPv6Address": ipaddress.ip_address("fe80::1%eth0"),
        "IPv4Network": ipaddress.ip_network("10.0.0.0/8"),
        "IPv6Network": ipaddress.ip_network("2001:db8::/32"),
        "IPv4Interface": ipaddress.ip_interface("10.0.0.1/8"),
        "IPv6Interface": ipaddress.ip_interface("fe80::1/64"),
        "Pattern": re.compile("a+(?P<x>b)", re.IGNORECASE | re.MULTILINE),
        "Pattern of bytes": re.compile(b"\xff+"),
        "class int": int,
        "class Decimal": decimal.Decimal,
        "class Point": c.Point,
        "class Color": c.Color,
        "dict of classes": {"a": float, "b": str},
        "class that may do anything*": c.Plain,
        "IntEnum of the library": http.HTTPStatus.OK,
        "Flag of the library": re.IGNORECASE | re.DOTALL,
    }


def objects() -> dict[str, Any]:
    hidden = c.Hidden(1, hidden=(2,))
    lazy, beyond, named = c.Lazy(2), c.Point(1, 2), c.Named(1)
    lazy.double  # noqa: B018 (computed, and so in its __dict__)
    beyond.note = (1, 2)  # type: ignore[attr-defined]
    named.note = "n"  # type: ignore[attr-defined]
    changed, derived = c.Checked(1), c.Hidden(1)
    changed.x = "other"  # type: ignore[assignment]
    derived.derived, derived.never = {1}, 2
    shared = c.Point([1])
    opened = c.OpenStruct(x=1)
    opened.note = (1,)  # type: ignore[attr-defined]
    tree = c.Tree("root")
    tree.children = [c.Tree("a", children=[c.Tree("b")]), c.Tree("c")]
    circle = c.Tree("root")
    circle.children = [c.Tree("a", circle)]
    return {
        "Enum": c.Color.RED,
        "Enum by another name": c.Color.ALIAS,
        "Enum of str": c.Color.GREEN,
        "Enum of tuple": c.Color.PAIR,
        "Enum of dict": c.Shade.DARK,
        "inner Enum": c.Outer.Inner.X,
        "IntEnum": c.Level.HIGH,
        "StrEnum": c.Unit.SECOND,
        "Flag": c.Access.READ,
        "combined Flag": c.Access.READ | c.Access.WRITE,
        "empty Flag": c.Access(0),
        "IntFlag": c.Mode.A | c.Mode.B,
        "IntFlag with other bits": c.Mode(64),
        "list of Enums": [c.Color.RED, c.Level.LOW, c.Unit.METRE],
        "NamedTuple": c.Pair(1, (2,)),
        "namedtuple": c.Loose(1, [2]),
        "namedtuple with attributes": named,
        "nested NamedTuples": c.Pair(1, c.Pair(2, c.Loose(3))),
        "list of NamedTuples": [c.Pair(1), c.Pair(2)],
        "dataclass": c.Point(1, "a"),
        "dataclass of a tuple": c.Point((1, 2), {3}),
        "dataclass of an IntEnum": c.Point(c.Level.LOW, c.Unit.METRE),
        "dataclass of nan": c.Point(math.nan, -0.0),
        "dataclass with attributes": beyond,
        "dataclass with hidden fields": hidden,
        "dataclass with derived fields": derived,
        "dataclass with a cached property": lazy,
        "dataclass that checks": changed,
        "dataclass of init only": c.WithInit(1, 2),
        "dataclass with a property": c.Managed(3),
        "frozen dataclass": c.Frozen(frozenset({1})),
        "slotted dataclass": c.Slotted(1, (2,)),
        "frozen slotted dataclass": c.FrozenSlotted(dt.date(2026, 1, 2)),
        "generic dataclass": c.Keyworded(first=1),
        "child dataclass": c.Child(1, 2),
        "inner dataclass": c.Outer.Part(),
        "dataclass without equality": c.ByIdentity([1]),
        "nested dataclasses": c.Point(c.Point(1), [c.Frozen(2)]),
        "tree of dataclasses": tree,
        "shared dataclass": [shared, shared],
        "set of dataclasses": {c.Frozen(1), c.Frozen(2)},
        "struct": c.Struct(1, (2,)),
        "frozen struct": c.FrozenStruct(c.Level.LOW),
        "struct with nothing set": c.ArrayStruct("a"),
        "renamed struct": c.ArrayStruct("a", "b"),
        "struct with attributes": opened,
        "struct that counts": c.CountingStruct(-3),
        "nested structs": c.Struct(c.Struct(1), [c.FrozenStruct(2)]),
        "dataclass of itself*": circle,
        "dataclass that is a list*": _listed(),
        "dataclass of an object*": c.Point(c.Plain(1)),
    }


def _listed() -> Any:
    made = c.Listed(3)
    made += [1, 2]
    return made


def models() -> dict[str, Any]:
    from tests.roundtrip import models as m

    extra = m.Extra(x=1, y=(1, 2), z={3})
    private = m.Private(x=1)
    private._secret = (1, {2})
    built = m.Patch.model_construct(id="not checked", anything={1})
    return {
        "model": m.Patch(id=7),
        "model with more set": m.Patch(id=7, name=None),
        "model of an IntEnum": m.Patch(id=1, anything=c.Level.LOW),
        "model of a StrEnum": m.Patch(id=1, anything=c.Unit.METRE),
        "model of a defaultdict": m.Patch(id=1, anything=collections.defaultdict(int, a=1)),
        "model of an OrderedDict": m.Patch(id=1, anything=collections.OrderedDict(a=1)),
        "model of a tuple": m.Patch(id=1, anything=(1, 2)),
        "model of a model": m.Patch(id=1, anything=m.Patch(id=2)),
        "model with extras": extra,
        "model with private attributes": private,
        "model of zones": m.Strict(
            when=dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
            price=decimal.Decimal("1.50"),
        ),
        "model with an alias": m.Aliased(theX=3),
        "model that normalises": m.Normalised(text="abc"),
        "model that was not checked": built,
        "nested models": m.Nested(patch=m.Patch(id=1), more=[m.Patch(id=2, name="x")]),
        "root model": m.Rooted([1, 2]),
        "generic model": m.IntBox(content=1),
        "pydantic dataclass": m.Validated(1, (2,)),
        "attrs": m.Slotted(1, (2,)),
        "attrs of an IntEnum": m.Slotted(c.Level.LOW),
        "frozen attrs": m.Frozen({1}),
        "open attrs": _opened(m.Open(1)),
        "attrs that converts": m.Converted(1),
        "derived attrs": m.Derived(1, 2, 3),
    }


def _opened(value: Any) -> Any:
    value.note = (1,)
    return value


def numbers() -> dict[str, Any]:
    import numpy as np

    return {
        "np.float64": np.float64(0.7),
        "np.float64 nan": np.float64("nan"),
        "np.float64 -0.0": np.float64(-0.0),
        "np.float64 inf": np.float64("inf"),
        "np.float32": np.float32(0.1),
        "np.float16": np.float16(0.1),
        "np.float16 nan": np.float16("nan"),
        "np.int64": np.int64(-3),
        "np.uint64": np.uint64(2**64 - 1),
        "np.int8": np.int8(-128),
        "np.bool": np.True_,
        "np.complex128": np.complex128(1 + 2j),
        "np.complex64": np.complex64(complex(0.1, math.nan)),
        "np.str_": np.str_("ä"),
        "np.bytes_": np.bytes_(b"\xff"),
        "np.datetime64 ns": np.datetime64("2026-01-02T03:04:05.123456789", "ns"),
        "np.datetime64 D": np.datetime64("2026-01-02", "D"),
        "np.datetime64 25s": np.datetime64(3, "25s"),
        "np.datetime64 NaT": np.datetime64("NaT", "us"),
        "np.timedelta64": np.timedelta64(3, "h"),
        "metrics": {"auc": np.float64(0.7), "n": np.int64(3)},
        "list of np.float32": [np.float32(0.1), np.float32(0.2)],
        "dataclass of np.float64": c.Point(np.float64(1.0)),
        "tuple of np.float64 keys": {np.float64(1.5): "a"},
        "class np.float32": np.float32,
        "np.longdouble*": np.longdouble(1.5),
    }


def times() -> dict[str, Any]:
    import pandas as pd

    # Stated, because versions of pandas differ in how they read a zone name, and a time without a unit.
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    return {
        "pd.Timestamp": pd.Timestamp("2026-01-02 03:04:05.123456789"),
        "pd.Timestamp of seconds": pd.Timestamp("2026-01-02").as_unit("s"),
        "pd.Timestamp of a zone": pd.Timestamp("2026-07-02", tz=berlin).as_unit("us"),
        "pd.Timestamp in the fold": pd.Timestamp("2026-10-25 01:30", tz="UTC").tz_convert(berlin).as_unit("us"),
        "pd.Timestamp of UTC": pd.Timestamp("2026-07-02", tz="UTC").as_unit("us"),
        "pd.Timestamp of an offset": pd.Timestamp("2026-07-02T00:00+05:45").as_unit("us"),
        "pd.Timedelta": pd.Timedelta("1D 2h 3ns"),
        "pd.Timedelta of ms": pd.Timedelta("1h").as_unit("ms"),
        "pd.NaT": pd.NaT,
        "pd.NA": pd.NA,
        "pd.Interval": pd.Interval(0, 1.5, closed="left"),
        "pd.Interval of times": pd.Interval(
            pd.Timestamp("2026-01-01").as_unit("us"), pd.Timestamp("2026-02-01").as_unit("us")
        ),
        "pd.Period": pd.Period("2026-01", "M"),
        "pd.Period of days": pd.Period("2026-01-02", "D"),
        "list of pandas scalars": [pd.Timestamp("2026-01-02").as_unit("us"), pd.NaT, pd.NA],
    }


NEEDS = {
    "plain": (plain, None),
    "containers": (containers, None),
    "scalars": (scalars, None),
    "objects": (objects, None),
    "models": (models, "pydantic"),
    "numbers": (numbers, "numpy"),
    "times": (times, "pandas"),
}
"""The groups of the table, and the package that each needs."""


def codec_of(group: str, name: str) -> str:
    """Return the codec that stores the value of this name."""
    if name.endswith("*"):
        return "pickle"
    return "json" if group == "plain" else "json/typed"


def every(*groups: str) -> dict[str, Any]:
    """Return all values by `group: name`."""
    return {f"{group}: {name}": v for group in groups or NEEDS for name, v in NEEDS[group][0]().items()}
