"""One of many processes that compute the same 50 keys in one store; each value is random, so only one can be seen."""

from __future__ import annotations

import hashlib
import json
import os
import sys

import pyarrow as pa

from penstock import INPUTS, flow, task


@task(cache_policy=INPUTS)
def noise(n: int) -> pa.Table:
    return pa.table({"x": pa.array(list(os.urandom(20_000)), pa.uint8())})


@flow
def everything() -> list[pa.Table]:
    return [noise(n) for n in range(50)]


if __name__ == "__main__":
    sys.stdin.readline()  # all begin at once
    found = everything.with_options(result_storage=sys.argv[1])()
    print(json.dumps([hashlib.sha256(table["x"].to_numpy().tobytes()).hexdigest() for table in found]))
