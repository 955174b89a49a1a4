"""Values that tests of runners modify in place. Workers import them, so nothing of pytest is here."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

from penstock.testing.runners.objects import Items

KEPT: dict[str, Any] = {}
"""Values that tasks keep after returning them."""


def make(kind: str) -> Any:
    """Return a mutable value."""
    new: dict[str, Any] = {
        "list": [1, [2]],
        "dict": {"a": [1]},
        "tuple": ([1], 2),
        "bytearray": bytearray(b"abc"),
        "object": Items(1, 2),
    }
    return new[kind]


def spoil(kind: str, value: Any) -> None:
    """Modify a value in place."""
    if kind == "list":
        value[1].append("spoilt")
    elif kind == "bytearray":
        value[:] = b"spoilt"
    elif kind == "object":
        value.items.append("spoilt")
    else:
        value["a" if kind == "dict" else 0].append("spoilt")


class Linked:
    """An object with slots."""

    __slots__ = ("link",)

    def __init__(self, link: Any) -> None:
        self.link = link


def make_live(kind: str) -> Any:
    """Return a value that must not leave its process."""
    if kind == "file":
        file = open(os.devnull)  # noqa: SIM115 (it stays open)
        OPEN.append(file)
        return {"model": Items(file)}
    if kind == "memory":
        return [1, memoryview(b"abc")]
    if kind == "lock":
        return Linked({"of": threading.Lock()})
    if kind == "socket":
        ours, theirs = socket.socketpair()
        OPEN.extend((ours, theirs))
        return (ours,)
    return {"rows": (n for n in range(3))}


OPEN: list[Any] = []
PLACES = {
    "file": "['model'].items[0]", "memory": "[1]", "lock": ".link['of']", "socket": "[0]", "generator": "['rows']",
}  # fmt: skip
KINDS = ("list", "dict", "tuple", "bytearray", "object")


def make_another(kind: str) -> Any:
    """Return what `make` does, from a function that may be another task."""
    return make(kind)
