"""Many processes that compute the same 50 keys in one store; each value is random, so only one must be visible.

    python programs_race.py STORE COUNT flow|results [DOOMED]

Print a line of JSON for each process: a digest of each value it got, and how many it published. The doomed ones
are killed between writing a payload and publishing it. The processes are forked from this one, which has imported
everything and has no threads, so they take little memory.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import signal
import sys
import traceback
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa
import s3fs

from penstock import INPUTS, flow, task
from penstock.storage import open_store
from penstock.storage.results.generations import Absent, Found
from penstock.storage.results.store import Published, ResultStore, Staged
from penstock.storage.stores import deadlines

KEYS = 50
FILES = 5
"""Every fifth value has its own file; the others are in their records."""
assert s3fs  # imported here once, and not in each of them
deadlines.REQUEST_SECONDS = 300.0  # all of them share a processor with the server


@task(cache_policy=INPUTS)
def noise(n: int) -> Any:
    if n % FILES:
        return os.urandom(100).hex()
    return pa.table({"x": pa.array(list(os.urandom(20_000)), pa.uint8())})


@flow
def everything() -> list[Any]:
    return [noise(n) for n in range(KEYS)]


def by_flow(url: str, doomed: bool) -> dict[str, Any]:
    run = everything.with_options(result_storage=url).run()
    values = [each.encode() if isinstance(each, str) else each["x"].to_numpy().tobytes() for each in run.result()]
    return {"values": [digest(value) for value in values], "won": 0}


def by_results(url: str, doomed: bool) -> dict[str, Any]:
    """Look up, compute and publish each key separately, in a random order."""
    results = ResultStore(open_store(url))
    values, won = [""] * KEYS, 0
    if doomed:
        staged(results, random.randrange(0, KEYS, FILES), "x" * 20_000, Absent(0, "never"))
        os.kill(os.getpid(), signal.SIGKILL)
    for n in random.sample(range(KEYS), KEYS):
        found = results.look_up("noise", str(n))
        if isinstance(found, Found):
            record = found.record
        else:
            value = os.urandom(100 if n % FILES else 10_000).hex()
            done = results.publish("noise", str(n), value, after=found, **named(value))
            assert isinstance(done, Published)
            record, won = done.record, won + done.won
        values[n] = digest(results.load(record).encode())
    return {"values": values, "won": won}


def staged(results: ResultStore, n: int, value: str, after: Any) -> Staged:
    return results.stage("noise", str(n), value, after=after, **named(value))


def named(value: str) -> dict[str, Any]:
    """Return the attempt's description of itself and its value."""
    return {"attempt": uuid.uuid4().hex, "digest": digest(value.encode())}


def digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()[:16]


def in_child(work: Callable[[], dict[str, Any]], begin: int, answers: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.read(begin, 1)  # all start at once
        # One short line, which a pipe accepts whole.
        os.write(answers, json.dumps(work()).encode() + b"\n")
        os._exit(0)
    except BaseException:  # noqa: BLE001 (a forked child must end here, whatever happens)
        traceback.print_exc()
        os._exit(1)


def main(url: str, count: int, how: str, doomed: int = 0) -> int:
    work = {"flow": by_flow, "results": by_results}[how]
    begin, go = os.pipe()
    gc.freeze()  # garbage collection in a child would copy everything imported
    children = [in_child(partial(work, url, n < doomed), begin, sys.stdout.fileno()) for n in range(count)]
    os.write(go, b"." * count)
    return sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) not in (0, -signal.SIGKILL) for pid in children)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:])))
