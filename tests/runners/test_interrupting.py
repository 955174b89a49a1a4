"""Interrupted threads under a tracer, such as coverage and debuggers, in a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, threading, time
from penstock import flow, task
from penstock.runners.local.threads import _ThreadEngine

go = threading.Lock()
go.acquire()
add_seat, seats = _ThreadEngine._add_seat, []

@task(timeout_seconds=0.1)
def waits():
    go.acquire()

@flow(runner="threads?workers=1")
def late():
    return type(waits.submit().result(raise_on_failure=False)).__name__

def ends_meanwhile(self):
    # A seat is added to replace the one of `waits`: the engine holds its guard, and the call that it interrupts ends.
    if seats:
        go.release()
        while sys._current_frames()[seats[0].thread.ident].f_code.co_name != "_serve":
            time.sleep(0.001)
    add_seat(self)
    seats.append(self._seats[-1])

_ThreadEngine._add_seat = ends_meanwhile
threading.settrace(lambda *_: None)
print(late())
"""


@pytest.mark.slow
def test_a_call_that_ends_while_it_is_interrupted_does_not_block_a_traced_run(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    alone = {name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"}
    alone["PENSTOCK_STORE"] = str(tmp_path / "store")
    done = subprocess.run([sys.executable, str(path)], env=alone, text=True, capture_output=True, timeout=300)
    assert done.stdout == "TaskTimeout\n", done.stderr
    assert done.stderr == ""
