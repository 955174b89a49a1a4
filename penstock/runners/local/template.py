"""Starts worker processes as copies of one process that has loaded Penstock, which takes a tenth of the time.

The template process has one thread and nothing of the user's. It forks a worker for each request, and reaps a worker
only when it is told to, so that until then no other process can have its id.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing.connection
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from typing import Any

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from penstock.runners.local.template_main import main; main(int(sys.argv[2]))"
)
ENDING_SECONDS = 5.0
"""How long a process may take to exit after its connection was closed."""

ANSWER_SECONDS = 60.0
"""A template that takes longer to answer is stopped, and another one is started when it is needed."""

LENGTH = struct.Struct("<q")
"""Precedes each request. An answer consists of one number of this form."""

UNKNOWN = 1 << 40
"""The answer to the question how a process ended that is no child of the template."""


class WorkerProcess:
    """A process that a template has forked."""

    def __init__(self, parent: _TemplateProcess, pid: int, ended: int) -> None:
        self.pid = pid
        self._parent = parent
        self._ended = ended  # the reading end of a pipe that closes when the process ends
        self._guard = threading.Lock()
        self._reaped = False

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def wait(self) -> int | None:
        """Return the exit status, or minus the number of the signal that ended it. Kill it if it does not end soon.

        Returns:
            None if that cannot be known, because the template is gone.
        """
        multiprocessing.connection.wait([self._ended], ENDING_SECONDS)
        self.kill()  # changes nothing if it has ended, but it may only have closed its descriptors
        with self._guard:
            self._reaped = True
            os.close(self._ended)
            return self._parent.reap(self.pid)

    def _signal(self, number: int) -> None:
        with self._guard:
            # Without its parent, the id may soon belong to another process.
            if not self._reaped and (self._parent.is_alive or not multiprocessing.connection.wait([self._ended], 0)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)


class Template:
    """The template process of a runner or a run: started by the first request, and replaced if need be.

    Safe to use from threads.
    """

    def __init__(self) -> None:
        self.is_closed = False
        self._owner = os.getpid()
        self._guard = threading.Lock()
        self._current: _TemplateProcess | None = None
        self._former: list[_TemplateProcess] = []  # with workers that only they can reap

    @property
    def usable(self) -> bool:
        """Whether this is the process that created it, and not one that was forked since."""
        return self._owner == os.getpid()

    def start(self, worker: int, life: int, scratch: str) -> WorkerProcess:
        """Start a worker process that has this process's current environment, folder, `sys.path` and standard streams.

        Args:
            worker: The descriptor of the worker's end of its connection.
            life: The descriptor of a pipe that closes when this process ends.
            scratch: The folder for large values.

        Raises:
            OSError: There is no process to be had.
        """
        streams = [number for number in range(3) if _is_stream(number)]
        request = {
            "scratch": scratch,
            "path": _import_path(),
            "environment": dict(os.environ),
            "folder": _folder(),
            "streams": streams,
        }
        ended, ends = os.pipe()
        try:
            with self._guard:
                parent, pid = self._forked(request, [worker, life, ends, *streams])
        except OSError:
            os.close(ended)
            raise
        finally:
            os.close(ends)
        return WorkerProcess(parent, pid, ended)

    def close(self) -> None:
        """End the template processes, and workers that are left."""
        with self._guard:
            self.is_closed = True
            for each in (self._current, *self._former):
                if each is not None:
                    each.end()
            self._current, self._former = None, []

    def _forked(self, request: dict[str, Any], descriptors: list[int]) -> tuple[_TemplateProcess, int]:
        inherited = _inherited()
        if self._current is not None and self._current.inherited != inherited:
            self._former.append(self._current)
            self._current = None
        parent = self._current = self._current or _TemplateProcess(inherited)
        try:
            pid = parent.ask(request, descriptors)
        except OSError:  # somebody killed or stopped it
            parent.end()
            parent = self._current = _TemplateProcess(inherited)
            pid = parent.ask(request, descriptors)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return parent, pid


class _TemplateProcess:
    def __init__(self, inherited: tuple[Any, ...]) -> None:
        self.inherited = inherited
        self._guard = threading.Lock()
        self._control, theirs = (_above_streams(each) for each in socket.socketpair())
        self._control.settimeout(ANSWER_SECONDS)
        stdin, stdout, stderr = (None if _is_stream(number) else subprocess.DEVNULL for number in range(3))
        with theirs:
            # -P: nothing of the current folder is imported unless this process would.
            command = [sys.executable, "-P", "-c", _PROGRAM, json.dumps(_import_path()), str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=stdin, stdout=stdout, stderr=stderr
            )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, Any], descriptors: list[int]) -> int:
        """Send a request with descriptors and return the answer. Raises `OSError` if there is none."""
        data = json.dumps(request).encode()
        with self._guard:
            socket.send_fds(self._control, [LENGTH.pack(len(data))], descriptors)
            self._control.sendall(data)
            answer: int = LENGTH.unpack(read(self._control, LENGTH.size))[0]
        return answer

    def reap(self, pid: int) -> int | None:
        """Wait for the end of a worker. Return how it ended, or None if that cannot be known."""
        try:
            answer = self.ask({"reap": pid}, [])
        except OSError:
            self.end()
            return None
        return None if answer == UNKNOWN else answer

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)  # a process that was forked meanwhile has it as well
        self._control.close()
        try:
            self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def read(connection: socket.socket, size: int) -> bytes:
    """Return the next `size` bytes. Raises `ConnectionError` if the other side ends before."""
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionResetError("the other process has ended")
        data += part
    return data


# -- what a process inherits -------------------------------------------------------------------------------------------


def _above_streams(connection: socket.socket) -> socket.socket:
    """Return the socket with a number that no standard stream has, if one of these is closed."""
    if connection.fileno() > 2:
        return connection
    with connection:
        return socket.socket(fileno=fcntl.fcntl(connection.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))


def _is_stream(descriptor: int) -> bool:
    """Return whether programs would inherit it, and it is not just an own file with the number of a closed stream."""
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False


def _import_path() -> list[str]:
    entries: list[Any] = sys.path
    return [each for each in entries if isinstance(each, str)]  # Python ignores the others


def _folder() -> str | None:
    with contextlib.suppress(FileNotFoundError):  # somebody deleted it
        return os.getcwd()
    return None


def _inherited() -> tuple[Any, ...]:
    """Return what a new process has from its parent and cannot be given otherwise."""
    limits = tuple(resource.getrlimit(each) for each in _LIMITS)
    cores = frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else None
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    return os.geteuid(), os.getegid(), os.getuid(), os.getgid(), os.getgroups(), nice, cores, limits, _umask()


_LIMITS = [number for name, number in vars(resource).items() if name.startswith("RLIMIT_")]


def _umask() -> str:
    """Return the umask where it can be read without setting it."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return next((line for line in status if line.startswith("Umask:")), "")
    return ""
