"""Which process is behind a session, and whether that process is certainly gone.

Only Linux tells enough; elsewhere nothing is certain, and sessions are judged by their heartbeats alone.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

UNKNOWN = ""
_PIDS = 1 << 31
"""No process has this number, or one beyond: a record that says so is no record of ours."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """Enough to recognise a process from another one of the same machine, whatever became of its pid since."""

    host: str
    """The machine's name; for people, and against machines cloned from one running image."""
    boot: str
    """The kernel's boot id, or empty where there is none."""
    namespace: str
    """The pid namespace: two containers of one machine both have a process 7."""
    pid: int
    started: str
    """The start time in clock ticks since boot: a pid is given away again, this pair is not."""

    def __post_init__(self) -> None:
        # Identities are read from what others wrote; one of another shape is nobody's.
        if type(self.pid) is not int or not all(type(each) is str for each in (self.host, self.boot, self.namespace)):
            raise TypeError("an identity of a process is a number and texts")
        if type(self.started) is not str:
            raise TypeError("the start of a process is a text")

    @classmethod
    def current(cls) -> ProcessIdentity:
        return cls(
            host=platform.node(),
            boot=_line("/proc/sys/kernel/random/boot_id"),
            namespace=_pid_namespace(),
            pid=os.getpid(),
            started=_state_and_start(os.getpid())[1],
        )

    def is_gone(self) -> bool:
        """True only if the process certainly no longer runs. False says nothing: judge by its heartbeat then."""
        if UNKNOWN in (self.boot, self.namespace, self.started) or not 0 < self.pid < _PIDS:
            return False
        here = (
            platform.node(),
            _line("/proc/sys/kernel/random/boot_id"),
            _pid_namespace(),
        )
        if (self.host, self.boot, self.namespace) != here:
            return False
        try:
            # Not only /proc: it may hide other users' processes, and a hidden process is not a dead one.
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        state, started = _state_and_start(self.pid)
        return started != UNKNOWN and (started != self.started or state in "ZX")


def _state_and_start(pid: int) -> tuple[str, str]:
    """The state letter and the start time of a process; empty where they cannot be read."""
    # The command's name comes second, in parentheses, and may itself hold blanks and parentheses.
    fields = _line(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (fields[0], fields[19]) if len(fields) > 19 else (UNKNOWN, UNKNOWN)


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return UNKNOWN


def _line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return UNKNOWN
