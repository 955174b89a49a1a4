"""The identity of the process behind a session, and whether it has certainly ended.

Only Linux provides enough information; elsewhere nothing is certain, and only heartbeats count.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

UNKNOWN = ""
_PIDS = 1 << 31
"""Process ids are smaller than this; a record with a larger one is not ours."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """Identifies a process of a machine uniquely, even if its pid is reused."""

    host: str
    """The machine's name, for people and to distinguish machines cloned from one running image."""
    boot: str
    """The kernel's boot id; empty if there is none."""
    namespace: str
    """The pid namespace: two containers on one machine can each have a process 7."""
    pid: int
    started: str
    """The start time in clock ticks since boot: pids are reused, but not together with this."""

    def __post_init__(self) -> None:
        # Identities are read from records that other programs may have written.
        if type(self.pid) is not int or not all(type(each) is str for each in (self.host, self.boot, self.namespace)):
            raise TypeError("the identity of a process consists of a number and strings")
        if type(self.started) is not str:
            raise TypeError("the start time of a process is a string")

    @classmethod
    def current(cls) -> ProcessIdentity:
        own = _of_this_process(os.getpid())
        if UNKNOWN in (own.boot, own.namespace, own.started):  # perhaps only now, without a free file descriptor
            _of_this_process.cache_clear()
        return own

    def is_gone(self) -> bool:
        """Return True only if the process has certainly ended. False means nothing: check its heartbeat then."""
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
            # /proc alone is not enough: it may hide the processes of other users.
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        state, started = _state_and_start(self.pid)
        return started != UNKNOWN and (started != self.started or state in "ZX")


@lru_cache(maxsize=1)
def _of_this_process(pid: int) -> ProcessIdentity:
    return ProcessIdentity(
        host=platform.node(),
        boot=_line("/proc/sys/kernel/random/boot_id"),
        namespace=_pid_namespace(),
        pid=pid,
        started=_state_and_start(pid)[1],
    )


# The pid alone does not tell: a fork may get the pid of an ancestor that has ended.
os.register_at_fork(after_in_child=_of_this_process.cache_clear)


def _state_and_start(pid: int) -> tuple[str, str]:
    """Return the state letter and the start time of a process; empty strings if they cannot be read."""
    # The second field is the command in parentheses, which may itself contain blanks and parentheses.
    fields = _line(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (fields[0], fields[19]) if len(fields) > 19 else (UNKNOWN, UNKNOWN)


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return UNKNOWN


def _line(path: str) -> str:
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:  # also where a test replaces `open`
            return file.readline().strip()
    except OSError:
        return UNKNOWN
