"""Kill a publishing process after each of its system calls in turn, and report what it left.

    python programs_killed.py FOLDER

Print a line of JSON for each kill. Everything is imported once; each writer is a forked child that is traced (ptrace),
so that it stops at every system call. Linux only.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock.storage import LocalStore
from penstock.storage.results import maintenance
from penstock.storage.results.generations import Found
from penstock.storage.results.store import Published, ResultStore

TRACE_ME, TO_NEXT_CALL = 0, 24
LONG = "x" * 20_000
"""Stored in its own file."""
_libc = ctypes.CDLL(None, use_errno=True)


def trace(request: int, pid: int) -> None:
    if _libc.ptrace(request, pid, None, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace: {os.strerror(number)}")


def publish(results: ResultStore, value: Any, attempt: str) -> Published:
    found = results.look_up("t", "k")
    done = results.publish("t", "k", value, after=found, attempt=attempt, digest="d")
    assert isinstance(done, Published)
    return done


def writer(results: ResultStore, value: Any) -> int:
    """Fork a traced child that publishes, stopped before it starts."""
    pid = os.fork()
    if pid == 0:
        try:
            trace(TRACE_ME, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            publish(results, value, "killed")
            os._exit(0)
        except BaseException:  # noqa: BLE001 (a forked child must end here, whatever happens)
            traceback.print_exc()
            os._exit(1)
    os.waitpid(pid, 0)
    return pid


def killed_after(results: ResultStore, value: Any, calls: int) -> bool:
    """Kill the writer after that many system calls. Return False if it ended before."""
    pid = writer(results, value)
    for _ in range(2 * calls):  # it stops before each call and after it
        trace(TO_NEXT_CALL, pid)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            return False
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def seen(results: ResultStore) -> Any:
    found = results.look_up("t", "k")
    return results.load(found.record)[:5] if isinstance(found, Found) else found.reason


def judged(folder: Path) -> dict[str, Any]:
    """Return what the next reader and the next writer find in the store."""
    results = ResultStore(LocalStore(folder, durable=False))
    before = seen(results)
    problems = maintenance.verify(results).problems
    publish(results, f"again{LONG}", "again")
    after = seen(results)
    maintenance.gc(results, grace_seconds=0)
    payloads = [file.name for file in results.store.list("results/") if not file.name.endswith(".record.json")]
    return {"before": before, "problems": len(problems), "after": after, "payloads": len(payloads)}


def kill_everywhere(folder: Path, name: str, prepare: Callable[[ResultStore], object], value: Any) -> None:
    template = folder / "template"
    template.mkdir()
    prepare(ResultStore(LocalStore(template, durable=False)))
    calls = 0
    while True:
        store = folder / str(calls)
        shutil.copytree(template, store)
        if not killed_after(ResultStore(LocalStore(store)), value, calls):
            break
        print(json.dumps({"scene": name, "calls": calls, **judged(store)}))
        shutil.rmtree(store)
        calls += 1
    print(json.dumps({"scene": name, "calls": calls, "ended": True, **judged(store)}))


def main(folder: Path) -> None:
    scenes: dict[str, tuple[Callable[[ResultStore], object], Any]] = {
        "small, into an empty folder": (lambda results: None, "small"),
        "large, into an empty folder": (lambda results: None, f"large{LONG}"),
        "large, in the place of another": (lambda results: publish(results, f"older{LONG}", "o"), f"large{LONG}"),
    }
    for number, (name, (prepare, value)) in enumerate(scenes.items()):
        inside = folder / f"scene-{number}"
        inside.mkdir()
        kill_everywhere(inside, name, prepare, value)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
