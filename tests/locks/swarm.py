"""Many drivers at once: `swarm.py COUNT` forks drivers that all run key 0 of `shared_work`, and prints their answers.

It forks before there are threads and after all imports: starting a separate program for each would take a second.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys

from tests.locks import shared_work


def main() -> None:
    importlib.import_module("redis")
    count = int(sys.argv[1])
    begin, told = os.pipe(), os.pipe()
    for _ in range(count):
        if os.fork() == 0:
            os.close(begin[1])
            os.write(told[1], answer(begin[0]))
            os._exit(0)
    os.close(begin[0])
    os.close(told[1])
    os.close(begin[1])  # all of them start
    with os.fdopen(told[0]) as answers:
        print(json.dumps([json.loads(line) for line in answers]))


def answer(begin: int) -> bytes:
    """Return one driver's answer: its last line."""
    sys.argv[1:] = ["1"]
    with os.fdopen(begin) as sys.stdin, contextlib.redirect_stdout(io.StringIO()) as said:
        shared_work.main()
    return said.getvalue().splitlines()[-1].encode() + b"\n"


if __name__ == "__main__":
    main()
