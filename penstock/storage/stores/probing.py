"""Does a service write conditionally, as it says? Tried once a day and store, with four names that are removed again.

Some clones of S3 take the header and ignore it, some refuse it, and some look first and write then, which only shows
when several write at once. So it is tried in sequence and in a race.
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
    """Try it. Raises what the calls raise where that says nothing about conditions: no permission, no answer."""
    mine = f".penstock/probes/{os.urandom(12).hex()}"
    names: list[str] = []
    try:
        names.append(mine)
        try:
            create(
                mine, b"first"
            )  # if the answer is lost and the request sent again, it is told that the name is taken
        except StoreRefused:
            put(mine, b"first")  # raises the same if it is not about the condition
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
            # Who may write but not delete can publish all the same, and leaves a few bytes where nobody looks.
            with contextlib.suppress(StoreError):
                delete(name)


def _one_wins(name: str, create: Callable[[str, bytes], bool], get: Callable[[str], bytes | None]) -> bool:
    start = Barrier(RACERS)

    def race(number: int) -> bool:
        start.wait()
        return create(name, b"%d" % number)

    with ThreadPoolExecutor(RACERS) as pool:
        won = list(pool.map(race, range(RACERS)))
    # A winner whose answer was lost and whose request was sent again is told no: then nobody won, and there are bytes.
    found = get(name)
    return won.count(True) <= 1 and found is not None and (True not in won or found == b"%d" % won.index(True))


def written_verdict(found: Conditions) -> bytes:
    facts = {"verdict": found.verdict, "versioned": found.versioned, "seen": found.seen}
    return json.dumps(facts).encode()


def read_verdict(data: bytes, *, now: float) -> Conditions | None:
    """The verdict of the last day; None for an older one and for what is none."""
    try:
        facts = json.loads(data)
        found = Conditions(facts["verdict"], facts["versioned"], float(facts["seen"]))
    except (KeyError, TypeError, ValueError):
        return None
    known = found.verdict in ("enforced", "ignored", "unsupported")
    return found if known and 0 <= now - found.seen < VERDICT_SECONDS else None
