"""Resources: what a call needs, in canonical units, and whether an engine has it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from penstock.errors import ConfigurationError
from penstock.graph.tasks import Resources
from penstock.objects.texts import closest

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = r"(?i)\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?i?)b?\s*"


def parse_bytes(size: float | str) -> float:
    """Return the number of bytes of a size such as `"4GiB"`, `"500MB"` or a number."""
    if isinstance(size, int | float):
        return float(size)
    match = re.fullmatch(_SIZE, size)
    if match is None:
        raise ConfigurationError(f"{size!r} is not a size", hint='write "4GiB", "500MB" or a number of bytes')
    return float(match[1]) * _UNITS[match[2].lower()]


def required(resources: Resources | None, attempt: int) -> dict[str, float]:
    """Return what an attempt, numbered from 1, needs. Raises `ConfigurationError` for an invalid mapping."""
    if resources is None:
        return {}
    asked: Any = resources(attempt) if callable(resources) else resources
    if not isinstance(asked, Mapping):
        raise ConfigurationError(
            f"resources cannot be {asked!r}", hint='pass a mapping such as {"cpu": 2, "memory": "4GiB"}'
        )
    needs: dict[str, float] = {}
    for name, amount in asked.items():
        if not isinstance(amount, int | float | str):
            raise ConfigurationError(
                f"resources[{name!r}] cannot be {amount!r}", hint='pass a number, or a size such as "4GiB"'
            )
        needs[str(name)] = parse_bytes(amount)
        if not needs[str(name)] >= 0:
            raise ConfigurationError(
                f"resources[{name!r}] cannot be {amount!r}", hint="pass a number that is not negative"
            )
    return needs


def missing(needs: Mapping[str, float], capacity: Mapping[str, float]) -> str:
    """Describe what an engine of this capacity lacks; empty if it lacks nothing."""
    lacking = [
        f"{name} {amount:g} (there is {capacity.get(name, 0):g})"
        for name, amount in needs.items()
        if amount > capacity.get(name, 0)
    ]
    return ", ".join(lacking)


def did_you_mean_resource(needs: Mapping[str, float], capacity: Mapping[str, float]) -> str:
    """Return a hint for a call that no worker can run: the resource it probably means, or what else to do."""
    there = capacity.keys() - {"slots", "workers"}
    unknown = sorted(needs.keys() - capacity.keys())
    meant = (f"{close} instead of {name}" for name in unknown if (close := closest(name, there, _ALIKE)))
    otherwise = "request less with resources=, or use a runner whose workers have it"
    if unknown:
        named = ", ".join(f"{name!r}: {needs[name]:g}" for name in unknown)
        otherwise += f"; local runners have what you say: ThreadRunner(resources={{{named}}})"
    return f"did you mean {found}?" if (found := ", ".join(sorted(meant))) else otherwise


_ALIKE = 0.7
"""More than `gpu` and `cpu` are alike."""

WORKER_TIMEOUT = 60.0
"""How long a call waits for a suitable worker, in seconds, if there was one recently or may be soon."""


def checked_timeout(worker_timeout: float) -> float:
    """Return a timeout unchanged. Raises `ConfigurationError` if it is not a number of seconds greater than 0."""
    if not worker_timeout > 0:
        raise ConfigurationError(
            f"worker_timeout cannot be {worker_timeout}", hint="pass a number of seconds greater than 0"
        )
    return float(worker_timeout)


def local_machine(workers: int) -> dict[str, float]:
    """Return the capacity of this machine for a number of concurrent calls."""
    memory = float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    return {"slots": float(workers), "cpu": float(max(workers, os.cpu_count() or 1)), "memory": memory}
