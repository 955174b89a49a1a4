"""Classes and helpers of the frozen flows. Never edited: see README.md."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

LIMIT = 3
RATES = {"low": 1.5, "high": (2, 3.25)}


class Size(enum.Enum):
    SMALL = 1
    LARGE = "l"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 10


class Pair(NamedTuple):
    left: int
    right: str = "r"


@dataclasses.dataclass(frozen=True)
class Shop:
    tax: float
    names: tuple[str, ...] = ("a", "b")

    def price(self, x: float) -> float:
        """What it costs."""
        return round(x * self.tax, 2)

    def __call__(self, x: float) -> float:
        return self.price(x) + LIMIT


SHOP = Shop(1.1)


def helper(x: int, *, by: int = 2) -> list[int]:
    return [n * by for n in range(x) if n % 2]


def scaled(by: float) -> Callable[[Callable[..., float]], Callable[..., float]]:
    def decorate(fn: Callable[..., float]) -> Callable[..., float]:
        @functools.wraps(fn)
        def wrapper(x: float) -> float:
            return fn(x) * by

        return wrapper

    return decorate


def made(held: Any) -> Callable[[int], Any]:
    def inner(x: int) -> Any:
        return [held.__name__ if callable(held) else held, x]

    return inner


@scaled(3)
def decorated(x: float) -> float:
    return x + LIMIT
