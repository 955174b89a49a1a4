"""Project classes of which the table has values."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import typing
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

T = TypeVar("T")


class Color(enum.Enum):
    RED = 1
    GREEN = "green"
    ALIAS = 1  # noqa: PIE796
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 10


class Unit(enum.StrEnum):
    METRE = "m"
    SECOND = enum.auto()


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Mode(enum.IntFlag, boundary=enum.KEEP):
    A = 1
    B = 2


class Shade(enum.Enum):
    DARK = {"r": 0}  # noqa: RUF012

    @property
    def weight(self) -> int:
        return 1


class Outer:
    class Inner(enum.Enum):
        X = 1

    @dataclasses.dataclass
    class Part:
        x: Any = 1


class Pair(NamedTuple):
    a: int
    b: Any = "x"


Loose = collections.namedtuple("Loose", ["x", "y"], defaults=[None])


class Named(collections.namedtuple("Named", ["x"])):
    """A named tuple with room for attributes."""


class Strange(NamedTuple):
    x: int

    def __new_like__(self) -> None: ...


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass(frozen=True)
class Frozen:
    value: Any


@dataclasses.dataclass(slots=True)
class Slotted:
    a: int
    b: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlotted:
    a: Any


@dataclasses.dataclass(kw_only=True, order=True)
class Keyworded(Generic[T]):
    first: int
    second: Any = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Hidden:
    shown: int
    hidden: Any = dataclasses.field(default=0, repr=False, compare=False)
    derived: Any = dataclasses.field(default=None, init=False)
    never: Any = dataclasses.field(init=False)


@dataclasses.dataclass
class Checked:
    x: float
    times: int = 0

    def __post_init__(self) -> None:
        self.x = float(self.x) * 2
        self.times += 1


@dataclasses.dataclass
class Lazy:
    x: int

    @functools.cached_property
    def double(self) -> int:
        return self.x * 2


@dataclasses.dataclass
class Child(Point):
    z: Any = 3
    kind: typing.ClassVar[str] = "child"


@dataclasses.dataclass
class Tree:
    name: str
    parent: Any = None
    children: list[Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class WithInit:
    x: int
    start: dataclasses.InitVar[int] = 0

    def __post_init__(self, start: int) -> None:
        self.x += start


@dataclasses.dataclass(eq=False)
class ByIdentity:
    x: Any


@dataclasses.dataclass
class Listed(list):  # type: ignore[type-arg]
    """A dataclass that is also a list: its items are not a field."""

    x: int = 0


@dataclasses.dataclass
class Managed:
    _x: int = 0

    @property
    def x(self) -> int:
        return self._x


class Struct(msgspec.Struct):
    x: Any
    y: Any = None


class FrozenStruct(msgspec.Struct, frozen=True, tag="frozen"):
    x: Any


class ArrayStruct(msgspec.Struct, array_like=True, rename="camel"):
    first_name: str
    last_name: Any = msgspec.UNSET


class OpenStruct(msgspec.Struct, dict=True, kw_only=True):
    x: Any = 0


class CountingStruct(msgspec.Struct):
    x: int

    def __post_init__(self) -> None:
        self.x = abs(self.x)


class Plain:
    """An ordinary class."""

    def __init__(self, x: Any) -> None:
        self.x = x


class Name(str):
    """A subclass of `str`."""

    __slots__ = ()


class Count(int):
    pass


class Row(dict):  # type: ignore[type-arg]
    pass


class Reduced:
    def __init__(self, x: Any) -> None:
        self.x = x

    def __reduce__(self) -> Any:
        return Reduced, (self.x,)


class Problem(ValueError):
    pass
