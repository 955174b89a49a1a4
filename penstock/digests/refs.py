"""Ref: how a node names another node's result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, unsafe_hash=True)  # made for each input of each call, and never changed
class Ref:
    """Stands in arguments wherever a Future stood: the result of node number `node` of the same graph."""

    node: int


class Made:
    """Stands in the arguments of a task of Dask for what another task of its graph gives."""

    __slots__ = ("digest",)

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
