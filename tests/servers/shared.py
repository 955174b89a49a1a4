"""One server for all processes of a test session: the first that needs it starts it, and it ends with the last of them.

    with shared(folder, "tests.servers.ceph") as facts: ...

The server is a program `python -m <module> <folder>` that prints one line of JSON (the facts) when it is ready and
ends when its standard input does. A keeper process starts it and waits until nobody holds the lock `users` any more.
The kernel releases the locks of killed processes, so nothing is left behind, whichever process dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.packages import Unavailable

ROOT = Path(__file__).parent.parent.parent


@contextmanager
def shared(folder: Path, module: str) -> Iterator[dict[str, Any]]:
    """Return what the server printed about itself. Raise `Unavailable` if it does not start."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "start.lock", "w") as start, open(folder / "users", "w") as users:
        fcntl.flock(start, fcntl.LOCK_EX)
        facts = _running(folder, users) or _started(folder, users, module)
        fcntl.flock(start, fcntl.LOCK_UN)
        yield facts


def _running(folder: Path, users: Any) -> dict[str, Any] | None:
    try:
        fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return None  # its keeper has started to end it
    try:
        facts: dict[str, Any] = json.loads((folder / "facts.json").read_text())
    except FileNotFoundError:
        return None
    return facts


def _started(folder: Path, users: Any, module: str) -> dict[str, Any]:
    fcntl.flock(users, fcntl.LOCK_SH)  # once an older keeper has ended
    command = [sys.executable, "-m", "tests.servers.shared", str(folder), module]
    log = open(folder / "keeper.log", "w")  # noqa: SIM115  # the keeper's, from now on
    keeper = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
    log.close()
    assert keeper.stdout is not None
    line = keeper.stdout.readline()
    keeper.stdout.close()
    keeper.returncode = 0  # it outlives this process, which therefore does not wait for it
    if not line:
        said = " ".join((folder / "keeper.log").read_text().split())[-600:]
        raise Unavailable(f"{module} did not start: {said or 'it said nothing'}")
    facts: dict[str, Any] = json.loads(line)
    return facts


def keep(folder: Path, module: str) -> None:
    """Run the server until nobody uses it."""
    server = subprocess.Popen(
        [sys.executable, "-m", module, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line:
        sys.exit(server.wait())
    (folder / "facts.json").write_text(line)
    os.write(1, line.encode())  # in one write: the starter reads a line and closes the pipe
    os.close(1)
    with open(folder / "users") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        (folder / "facts.json").unlink()
        server.stdin.close()
        server.wait()


if __name__ == "__main__":
    keep(Path(sys.argv[1]), sys.argv[2])
