"""Functions that make a class of each kind from a value that nothing but the class holds."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import attrs
import msgspec
import pydantic

MAKERS: dict[str, Callable[[int], Any]] = {}


def kind(make: Callable[[int], Any]) -> Callable[[int], Any]:
    MAKERS[make.__name__] = make
    return make


class Held:
    """A descriptor and a callable without a digest."""

    def __init__(self, v: int) -> None:
        self.v = v

    def __get__(self, owner: object, kind: type) -> int:
        return self.v

    def read(self) -> int:
        return self.v


class Plain:
    def __init__(self, v: int) -> None:
        self.v = v

    def __call__(self) -> int:
        return self.v


T = typing.TypeVar("T")


class Generic(typing.Generic[T]):
    pass


@kind
def named_tuple(v: int) -> Any:
    class C(NamedTuple):
        x: int = v

    return C


@kind
def namedtuple(v: int) -> Any:
    return collections.namedtuple("C", "x", defaults=[v])


@kind
def namedtuple_fields(v: int) -> Any:
    return collections.namedtuple("C", f"x{v}")


@kind
def struct(v: int) -> Any:
    class C(msgspec.Struct):
        x: int = v

    return C


@kind
def struct_factory(v: int) -> Any:
    class C(msgspec.Struct):
        x: int = msgspec.field(default_factory=lambda: v)

    return C


def struct_option(name: str, *values: Any) -> None:
    def make(v: int) -> Any:
        class C(msgspec.Struct, **{name: values[v - 1]}):  # type: ignore[call-arg]
            x_y: int = 3

        return C

    MAKERS[f"struct {name}"] = make


for option in ("frozen", "order", "omit_defaults", "forbid_unknown_fields", "array_like", "dict"):
    struct_option(option, False, True)
struct_option("eq", True, False)
struct_option("tag", "one", "two")
struct_option("rename", None, "camel")


@kind
def defstruct(v: int) -> Any:
    return msgspec.defstruct("C", [("x", int, v)], module=__name__)


def dataclass_option(**options: Any) -> None:
    def make(v: int) -> Any:
        @dataclasses.dataclass(**(options if v == 2 else {}))
        class C:
            x: int = 3

        return C

    MAKERS[f"dataclass {next(iter(options))}"] = make


for option in ("frozen", "order", "unsafe_hash", "kw_only", "slots"):
    dataclass_option(**{option: True})
for option in ("eq", "repr", "init", "match_args"):
    dataclass_option(**{option: False})


@kind
def dataclass_field(v: int) -> Any:
    @dataclasses.dataclass
    class C:
        x: int = dataclasses.field(default=3, metadata={"unit": v}, compare=v == 1)

    return C


@kind
def made_by_type(v: int) -> Any:
    return type("C", (), {"x": v})


@kind
def make_dataclass(v: int) -> Any:
    return dataclasses.make_dataclass("C", [("x", int, dataclasses.field(default=v))])


@kind
def functional_enum(v: int) -> Any:
    return enum.Enum("C", ["A", "B"] if v == 1 else ["B", "A"])


@kind
def typed_dict(v: int) -> Any:
    return typing.TypedDict("C", {"a": int} if v == 1 else {"b": int})  # type: ignore[misc]


@kind
def slots(v: int) -> Any:
    class C:
        __slots__ = ("a", "b") if v == 1 else ("a",)

    return C


@kind
def generic_base(v: int) -> Any:
    class C(Generic[(int, str)[v - 1]]):  # type: ignore[misc]
        pass

    return C


@kind
def name(v: int) -> Any:
    class C:
        pass

    C.__name__ = f"C{v}"
    return C


@kind
def descriptor(v: int) -> Any:
    class C:
        x = Held(v)

    return C


@kind
def callable_object(v: int) -> Any:
    class C:
        x = Plain(v)

    return C


@kind
def callable_in_a_tuple(v: int) -> Any:
    class C:
        x = (Plain(v),)

    return C


@kind
def special_callable(v: int) -> Any:
    class C:
        __call__ = Plain(v)

    return C


@kind
def special_partial(v: int) -> Any:
    class C:
        __call__ = functools.partialmethod(lambda self, value: value, v)

    return C


@kind
def bound_method(v: int) -> Any:
    class C:
        x = staticmethod(Held(v).read)

    return C


@kind
def metaclass(v: int) -> Any:
    class M(type):
        def value(cls) -> int:
            return v

    class C(metaclass=M):
        pass

    return C


@kind
def annotation(v: int) -> Any:
    class C:
        pass

    C.__annotations__ = {"x": (int, str)[v - 1]}
    return C


@kind
def attrs_converter(v: int) -> Any:
    @attrs.define
    class C:
        x: int = attrs.field(default=5, converter=lambda value: value * v)

    return C


@kind
def attrs_converter_object(v: int) -> Any:
    @attrs.define
    class C:
        x: int = attrs.field(default=5, converter=attrs.Converter(lambda value: value * v))

    return C


@kind
def attrs_validator(v: int) -> Any:
    @attrs.define
    class C:
        x: int = attrs.field(default=5, validator=attrs.validators.instance_of((int, str)[v - 1]))

    return C


@kind
def attrs_hook(v: int) -> Any:
    @attrs.define(on_setattr=lambda self, field, value: value * v)
    class C:
        x: int = 5

    return C


def attrs_option(**options: Any) -> None:
    def make(v: int) -> Any:
        @attrs.define(**(options if v == 2 else {}))
        class C:
            x: int = attrs.field(default=5, validator=attrs.validators.instance_of(int))

        return C

    MAKERS[f"attrs {next(iter(options))}"] = make


for option in ("frozen", "order", "unsafe_hash"):
    attrs_option(**{option: True})
for option in ("eq", "repr", "slots"):
    attrs_option(**{option: False})


@kind
def pydantic_type(v: int) -> Any:
    return pydantic.create_model("C", x=((int, str)[v - 1], ...))


@kind
def pydantic_bound(v: int) -> Any:
    class C(pydantic.BaseModel):
        x: int = pydantic.Field(default=9, ge=v)

    return C


Colour = enum.Enum("Colour", "RED")
Point = collections.namedtuple("Point", "x")
Row = dataclasses.make_dataclass("Row", ["x"])


class Struct(msgspec.Struct):
    x: int = 1


@dataclasses.dataclass
class Record:
    x: int = 1


Item = typing.TypeVar("Item")


class Box(pydantic.BaseModel, typing.Generic[Item]):
    x: Item


NAMED = {
    "an enum": Colour.RED,
    "a named tuple": Point(1),
    "a made dataclass": Row(1),
    "a struct": Struct(),
    "a dataclass": Record(),
    "a generic model": Box[int](x=1),
}
