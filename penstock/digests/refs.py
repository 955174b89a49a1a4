"""Ref: a reference to another node's result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, unsafe_hash=True)  # never modified; not frozen, because many are created
class Ref:
    """Replaces a Future in arguments: the result of node number `node` of the same graph."""

    node: int


class Made:
    """Replaces a reference to another task in the arguments of a Dask task."""

    __slots__ = ("digest",)

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
