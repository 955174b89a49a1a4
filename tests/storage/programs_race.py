"""Many processes that compute the same 50 keys in one store; each value is random, so only one can be seen.

    python programs_race.py STORE COUNT flow|results

Prints a line of JSON for each process: a digest of each value it was given, and how many it published. The processes
are forked from this one, which has imported everything and has no thread: so they take little memory of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import traceback
import uuid
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import s3fs

from penstock import INPUTS, flow, task
from penstock.storage import open_store
from penstock.storage.results import Published, ResultStore
from penstock.storage.slots import Found

KEYS = 50
assert s3fs  # imported here, once, and not in each of them


@task(cache_policy=INPUTS)
def noise(n: int) -> pa.Table:
    return pa.table({"x": pa.array(list(os.urandom(20_000)), pa.uint8())})


@flow
def everything() -> list[pa.Table]:
    return [noise(n) for n in range(KEYS)]


def by_flow(url: str) -> dict[str, Any]:
    run = everything.with_options(result_storage=url).run()
    values = [table["x"].to_numpy().tobytes() for table in run.result()]
    return {"values": [digest(value) for value in values], "won": 0}


def by_results(url: str) -> dict[str, Any]:
    """Each looks up, computes and publishes for itself, in an order of its own."""
    results = ResultStore(open_store(url))
    values, won = [""] * KEYS, 0
    for n in random.sample(range(KEYS), KEYS):
        found = results.look_up("noise", str(n))
        if isinstance(found, Found):
            record = found.record
        else:
            value = os.urandom(10_000 if n % 5 == 0 else 100).hex()  # of which every fifth is a file of its own
            done = results.publish(
                "noise", str(n), value, after=found, attempt=uuid.uuid4().hex, digest=digest(value.encode())
            )
            assert isinstance(done, Published)
            record, won = done.record, won + done.won
        values[n] = digest(results.load(record).encode())
    return {"values": values, "won": won}


def digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()[:16]


def in_child(work: Callable[[str], dict[str, Any]], url: str, begin: int, answers: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.read(begin, 1)  # all begin at once
        # One short line, which a pipe takes whole.
        os.write(answers, json.dumps(work(url)).encode() + b"\n")
        os._exit(0)
    except BaseException:  # noqa: BLE001 (a forked child must end here, whatever happens)
        traceback.print_exc()
        os._exit(1)


def main(url: str, count: int, how: str) -> int:
    work = {"flow": by_flow, "results": by_results}[how]
    begin, go = os.pipe()
    children = [in_child(work, url, begin, sys.stdout.fileno()) for _ in range(count)]
    os.write(go, b"." * count)
    return sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in children)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
