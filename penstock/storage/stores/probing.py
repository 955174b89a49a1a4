"""Tests whether a service enforces conditional writes, once a day for each store, with four temporary names.

Some S3-compatible services ignore the header, some reject it, and some check before they write, which only fails for
concurrent writers. So writes are tested in sequence and concurrently.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Literal

from penstock.errors import StoreError, StoreRefused
from penstock.storage.stores.base import Conditions

VERDICT_NAME = ".penstock/conditions.json"
VERDICT_SECONDS = 24 * 3600.0
RACERS = 8
ROUNDS = 3

Verdict = Literal["enforced", "ignored", "unsupported"]


def probe(
    *,
    create: Callable[[str, bytes], bool],
    put: Callable[[str, bytes], None],
    get: Callable[[str], bytes | None],
    delete: Callable[[str], None],
) -> Verdict:
    """Test conditional writes. Raises errors of the calls that have other causes, such as missing permissions."""
    mine = f".penstock/probes/{os.urandom(12).hex()}"
    names: list[str] = []
    try:
        names.append(mine)
        try:
            create(mine, b"first")  # if the answer is lost, the repeated request finds the name taken
        except StoreRefused:
            put(mine, b"first")  # raises the same error if the condition is not its cause
            return "unsupported"
        if create(mine, b"second") or get(mine) != b"first":
            return "ignored"
        for number in range(ROUNDS):
            names.append(f"{mine}-{number}")
            if not _one_wins(names[-1], create, get):
                return "ignored"
        return "enforced"
    finally:
        for name in names:
            # Users who may write but not delete can still publish; a few bytes stay behind.
            with contextlib.suppress(StoreError):
                delete(name)


def _one_wins(name: str, create: Callable[[str, bytes], bool], get: Callable[[str], bytes | None]) -> bool:
    start = Barrier(RACERS)

    def race(number: int) -> bool:
        start.wait()
        return create(name, b"%d" % number)

    with ThreadPoolExecutor(RACERS) as pool:
        won = list(pool.map(race, range(RACERS)))
    # If the winner's answer is lost, its repeated request finds the name taken: then there is no winner, but there are
    # bytes.
    found = get(name)
    return won.count(True) <= 1 and found is not None and (True not in won or found == b"%d" % won.index(True))


def written_verdict(found: Conditions) -> bytes:
    facts = {"verdict": found.verdict, "versioned": found.versioned, "seen": found.seen}
    return json.dumps(facts).encode()


def read_verdict(data: bytes, *, now: float) -> Conditions | None:
    """Decode a verdict. Returns None if it is older than a day or invalid."""
    try:
        facts = json.loads(data)
        found = Conditions(facts["verdict"], facts["versioned"], float(facts["seen"]))
    except (KeyError, TypeError, ValueError):
        return None
    known = found.verdict in ("enforced", "ignored", "unsupported")
    return found if known and 0 <= now - found.seen < VERDICT_SECONDS else None
