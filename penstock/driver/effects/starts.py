"""Starts: those that a driver takes from the store for its nodes with rates."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.limits.rates import Rate, RateTable


class Starts:
    """Takes one start of every rate that a node needs, or none at all."""

    def __init__(self, table: RateTable) -> None:
        self._table = table

    def take(self, wanted: Mapping[int, Mapping[str, Rate]]) -> dict[int, str | None]:
        """Return, for each node, the tag without a start left, or None if all were taken. Raises `StoreError`."""
        return {node: self._lacking(rates) for node, rates in wanted.items()}

    def _lacking(self, rates: Mapping[str, Rate]) -> str | None:
        used: list[str] = []
        for tag, rate in rates.items():
            if not self._table.take(tag, rate, 1):
                for other in used:
                    self._table.give_back(other, 1)
                return tag
            used.append(tag)
        return None
