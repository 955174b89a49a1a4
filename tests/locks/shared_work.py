"""A pipeline whose keys several drivers share. As a program it is one driver, controlled by its arguments.

Each execution adds a line to the file SHARED_NOTES, so that executions can be counted over all processes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from typing import Any

from penstock import INPUTS, events, flow, task
from penstock.errors import PenstockError
from penstock.storage import LocalStore
from penstock.transactions import IsolationLevel

once = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)


@task(cache_policy=once, key_name="shared work")
def work(key: int) -> str:
    """Return a new value on each execution, so that equal results prove a single execution."""
    value = os.urandom(8).hex() + "." * int(os.environ.get("SHARED_SIZE", "0"))
    with open(os.environ["SHARED_NOTES"], "a") as notes:
        notes.write(f"{key} {value}\n")
    time.sleep(float(os.environ.get("SHARED_SECONDS", "0")))
    return value


@task(tags=["db"])
def query(key: int) -> int:
    """Return how many of these run at the same time on all machines, including this one."""
    mark = os.path.join(os.environ["SHARED_MARKS"], f"{os.getpid()} {key}")
    with open(mark, "x"):
        pass
    try:
        time.sleep(float(os.environ.get("SHARED_SECONDS", "0")))
        return len(os.listdir(os.environ["SHARED_MARKS"]))
    finally:
        os.unlink(mark)


@flow
def queries(keys: list[int]) -> dict[int, Any]:
    return {key: query(key) for key in keys}


@flow
def shared(keys: list[int]) -> dict[int, Any]:
    return {key: work(key) for key in keys}


def die(when: str) -> None:
    """Be killed `before` or `after` the next record of a result is written."""
    put = LocalStore.put_if_absent

    def dying(store: LocalStore, name: str, data: bytes) -> bool:
        if not name.startswith("results/"):
            return put(store, name, data)
        if when == "after":
            put(store, name, data)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")

    LocalStore.put_if_absent = dying  # type: ignore[method-assign]


def main() -> None:
    """Run `shared_work.py KEYS [SHIFT]`: run all keys, starting with the one after SHIFT, and print the result."""
    count, shift = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    print(json.dumps({"ready": os.getpid()}), flush=True)
    sys.stdin.readline()
    try:
        pipeline = queries if os.environ.get("SHARED_MARKS") else shared
        heard: list[events.Event] = []
        if "SHARED_DIE" in os.environ:
            die(os.environ["SHARED_DIE"])

        run = pipeline.run_with({"keys": [(key + shift) % count for key in range(count)]}, subscribers=[heard.append])
        result = {str(key): value for key, value in run.result().items()}
        waits = [event.seconds for event in heard if isinstance(event, events.NodeUnparked)]
        lost = sum(isinstance(event, events.LocksLost) for event in heard)
        told = {"result": result, "counts": run.counts, "longest_wait": max(waits, default=0.0), "locks_lost": lost}
        print(json.dumps({**told, "ended": time.monotonic()}), flush=True)
    except PenstockError as error:
        traceback.print_exc()
        print(json.dumps({"error": error.to_dict()}), flush=True)


if __name__ == "__main__":
    main()
