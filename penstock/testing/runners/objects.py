"""Objects that tests of runners pass to calls. Workers import them, so nothing of pytest is here."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec


class Items:
    """An object of a class unknown to Penstock."""

    def __init__(self, *items: Any) -> None:
        self.items = list(items)

    def __repr__(self) -> str:
        return f"Items{tuple(self.items)}"


class Table(dict[str, int]):
    """A container of a class of its own."""


@dataclass
class Job:
    """A dataclass with an object of another class in it."""

    items: Items


class Stubborn:
    """An object that can be pickled but not copied."""

    def __init__(self) -> None:
        self.uses = 0

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise ValueError("never")


class Unknown:
    """An object of a class that this module registers no digest for."""

    def __init__(self, level: int) -> None:
        self.level = level


class Unset:
    """A class with one object, which says that nothing was passed."""


class Order(msgspec.Struct):
    """A struct that is another one if it is constructed again."""

    amount: float

    def __post_init__(self) -> None:
        self.amount *= 2


@dataclass(eq=False)
class Node:
    """A record that can be modified, and equals only itself."""

    held: Any


@dataclass(frozen=True, eq=False)
class Symbol:
    """A record that equals only itself."""

    name: str


MISSING, UNSET, AUTO = object(), Unset(), Symbol("auto")


def make(kind: str) -> Any:
    """Return an object."""
    if kind == "instance":
        return Items(1)
    if kind == "inside":
        return [Job(Items(1))]
    others: dict[str, Any] = {"dict": Table(), "random": random.Random(0), "text": Items(io.StringIO())}
    return others[kind]


def use(kind: str, value: Any) -> str:
    """Return what an object gives, and modify it."""
    if kind == "random":
        return str(value.random())
    if kind == "dict":
        value[str(len(value))] = 1
        return repr(value)
    if kind == "text":
        value.items[0].write("x")
        return str(value.items[0].getvalue())
    items = value if kind == "instance" else value[0].items
    items.items.append("used")
    return repr(items)
