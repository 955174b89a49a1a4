"""The sample of mutants: spread over the modules by size, and stable as long as their lines are."""

from __future__ import annotations

import functools
import hashlib
import itertools
from pathlib import Path

from tests.mutants.changes import Change, changes, compiles

ROOT = Path(__file__).parents[2]
ROOMS = ["penstock/driver", "penstock/graph", "penstock/digests", "penstock/locks", "penstock/storage/results"]


def modules() -> list[str]:
    return [path.relative_to(ROOT).as_posix() for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def room(file: str) -> str:
    return next(each for each in ROOMS if file.startswith(each + "/"))


@functools.cache
def possible() -> dict[str, list[Change]]:
    """Return every change of every module."""
    return {file: changes(file, (ROOT / file).read_bytes()) for file in modules()}


def sample(count: int, seed: str) -> list[Change]:
    """Return a sample. Changing a line affects only neighbouring lines of the same module."""
    chosen: list[Change] = []
    for file, share in _shares({file: len(found) for file, found in possible().items()}, count).items():
        source = (ROOT / file).read_bytes()
        in_turn = sorted(possible()[file], key=lambda change: _place(change, seed))
        chosen += itertools.islice((change for change in in_turn if compiles(change, source)), share)
    return chosen


def _shares(sizes: dict[str, int], count: int) -> dict[str, int]:
    """Return how many mutants each module gets, rounded so that they add up."""
    exact = {name: count * size / sum(sizes.values()) for name, size in sizes.items()}
    shares = {name: int(share) for name, share in exact.items()}
    left = count - sum(shares.values())
    for name in sorted(exact, key=lambda name: (shares[name] - exact[name], name))[:left]:
        shares[name] += 1
    return shares


def _place(change: Change, seed: str) -> bytes:
    return hashlib.blake2b("\0".join([seed, *change.name]).encode()).digest()
