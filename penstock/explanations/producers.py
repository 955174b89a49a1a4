"""Differences between the environment that computed a result and this one, as far as keys depend on them."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.storage.records.records import Producer


def other_environment(there: Producer, here: Producer) -> str | None:
    """Return a text such as `made with pandas 2.2.3, here it is 3.1.1`.

    None if Python's minor version and the packages that both environments have are the same.
    """
    found = []
    if there.python and _minor(there.python) != _minor(here.python):
        found.append(f"made with Python {there.python}, here it is {here.python}")
    for name in sorted(there.packages.keys() & here.packages.keys()):
        if there.packages[name] != here.packages[name]:
            found.append(f"made with {name} {there.packages[name]}, here it is {here.packages[name]}")
    return "; ".join(found) or None


def other_environments(producers: Iterable[Producer], here: Producer) -> list[str]:
    """Return the distinct results of `other_environment`."""
    return sorted({said for producer in producers if (said := other_environment(producer, here)) is not None})


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
