"""Resources: what a call asks for, in canonical units, and whether an engine has it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from penstock.errors import ConfigurationError
from penstock.graph.tasks import Resources

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = r"(?i)\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?i?)b?\s*"


def parse_bytes(size: float | str) -> float:
    """`"4GiB"`, `"500MB"` or a number of bytes, as bytes."""
    if isinstance(size, int | float):
        return float(size)
    match = re.fullmatch(_SIZE, size)
    if match is None:
        raise ConfigurationError(f"{size!r} is not a size", hint='write "4GiB", "500MB" or a number of bytes')
    return float(match[1]) * _UNITS[match[2].lower()]


def required(resources: Resources | None, attempt: int) -> dict[str, float]:
    """What this attempt (from 1) needs. Raises `ConfigurationError` for what is not a mapping of numbers."""
    if resources is None:
        return {}
    asked: Any = resources(attempt) if callable(resources) else resources
    if not isinstance(asked, Mapping):
        raise ConfigurationError(f"resources={asked!r}", hint='give a mapping such as {"cpu": 2, "memory": "4GiB"}')
    needs: dict[str, float] = {}
    for name, amount in asked.items():
        if not isinstance(amount, int | float | str):
            raise ConfigurationError(f"resources[{name!r}] is {amount!r}", hint="give a number")
        needs[str(name)] = parse_bytes(amount)
        if not needs[str(name)] >= 0:
            raise ConfigurationError(f"resources[{name!r}] is {amount!r}", hint="give a number that is 0 or more")
    return needs


def missing(needs: Mapping[str, float], capacity: Mapping[str, float]) -> str:
    """Why an engine of this capacity can never run it; empty if it can."""
    lacking = [
        f"{name} {amount:g} (there is {capacity.get(name, 0):g})"
        for name, amount in needs.items()
        if amount > capacity.get(name, 0)
    ]
    return ", ".join(lacking)


WORKER_TIMEOUT = 60.0
"""So many seconds a call waits for a worker that has what it asks for, if there was one lately or may be soon."""


def checked_timeout(worker_timeout: float) -> float:
    """Raises `ConfigurationError` for what is no number of seconds above 0."""
    if not worker_timeout > 0:
        raise ConfigurationError(f"worker_timeout={worker_timeout}", hint="give a number of seconds above 0")
    return float(worker_timeout)


def local_machine(workers: int) -> dict[str, float]:
    """The capacity of this machine for so many calls at a time."""
    memory = float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    return {"slots": float(workers), "cpu": float(max(workers, os.cpu_count() or 1)), "memory": memory}
