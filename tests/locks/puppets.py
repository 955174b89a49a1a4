"""Puppets: processes with one lock session each that follow the commands of a test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import penstock.locks


class Process:
    """A puppet in its own process."""

    def __init__(self, place: Path | str, lease_seconds: float, *, blind: bool = False) -> None:
        puppet = str(Path(__file__).with_name("puppet.py"))
        self.popen = subprocess.Popen(
            # Python 3.12 warns about any fork in a process with threads, which is what is tested here.
            [sys.executable, "-W", "ignore", puppet, str(place), str(lease_seconds), "blind" if blind else "seeing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(penstock.locks.__file__).parents[2])},
        )

    def send(self, *request: Any) -> None:
        assert self.popen.stdin
        self.popen.stdin.write(json.dumps(request) + "\n")
        self.popen.stdin.flush()

    def receive(self) -> Any:
        assert self.popen.stdout
        line = self.popen.stdout.readline()
        assert line, "the puppet died"
        return json.loads(line)

    def ask(self, *request: Any) -> Any:
        self.send(*request)
        return self.receive()

    def begin_waiting(self, key: str) -> None:
        """Return once the puppet waits. Its next answer is the time at which it got the lock."""
        assert self.ask("wait_for", key) == "waiting"

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)
        if number == signal.SIGKILL:
            self.popen.wait()

    def end(self) -> None:
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe:
                pipe.close()
        self.popen.send_signal(signal.SIGCONT)
        self.popen.kill()
        self.popen.wait()
