"""Classes made with pydantic and attrs of which the table has values."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any, Generic, Literal, TypeVar

import attrs
import pydantic

T = TypeVar("T")


class Patch(pydantic.BaseModel):
    id: int
    name: str | None = None
    anything: Any = None


class Extra(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", arbitrary_types_allowed=True)
    x: int = 0


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, strict=True)
    when: dt.datetime
    price: decimal.Decimal
    kind: Literal["a", "b"] = "a"


class Private(pydantic.BaseModel):
    x: int
    _secret: Any = pydantic.PrivateAttr(default=1)


class Aliased(pydantic.BaseModel):
    x: int = pydantic.Field(alias="theX", default=0, exclude=True)


class Normalised(pydantic.BaseModel):
    text: str

    @pydantic.field_validator("text")
    @classmethod
    def shorter(cls, text: str) -> str:
        return text[1:]


class Nested(pydantic.BaseModel):
    patch: Patch
    more: list[Patch] = []


class Rooted(pydantic.RootModel[list[int]]):
    pass


class Box(pydantic.BaseModel, Generic[T]):
    content: T


IntBox = Box[int]


@pydantic.dataclasses.dataclass
class Validated:
    x: int
    y: Any = None


@attrs.define
class Slotted:
    x: Any
    y: Any = attrs.field(default=0, repr=False, eq=False)


@attrs.frozen
class Frozen:
    x: Any
    z: Any = attrs.field(init=False, default=3)


@attrs.define(slots=False)
class Open:
    x: Any


@attrs.define
class Converted:
    x: Any = attrs.field(converter=lambda x: (x,))


@attrs.frozen(cache_hash=True)
class Hashed:
    x: Any


@attrs.define
class Derived(Slotted):
    w: Any = None
