"""Starts worker processes as copies of one process that has loaded Penstock, which takes a tenth of the time.

The template process has one thread and nothing of the user's. It forks a worker for each request, and reaps a worker
only when it is told to, so that until then no other process can have its id.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing.connection
import os
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


class WorkerProcess:
    """A process that a template has started."""

    def __init__(self, template: Template, pid: int, ended: int) -> None:
        self.pid = pid
        self._template = template
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
            return self._template.reap(self.pid)

    def _signal(self, number: int) -> None:
        with self._guard:
            if not self._reaped:
                with contextlib.suppress(ProcessLookupError):  # the template is gone, and so is this
                    os.kill(self.pid, number)


class Template:
    """The template process. It is started by the first request and again if it was killed. Safe to use from threads."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

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
        streams = [number for number in range(3) if _is_open(number)]
        request = {
            "scratch": scratch,
            "path": sys.path,
            "environment": dict(os.environ),
            "folder": _folder(),
            "streams": streams,
        }
        ended, ends = os.pipe()
        try:
            pid = self._forked(request, [worker, life, ends, *streams])
        except OSError:
            os.close(ended)
            raise
        finally:
            os.close(ends)
        return WorkerProcess(self, pid, ended)

    def reap(self, pid: int) -> int | None:
        """Wait for the end of a worker process. Return how it ended, or None if the template is gone."""
        with self._guard:
            try:
                return self._ask({"reap": pid}, [])
            except OSError:
                self._end()
                return None

    def close(self) -> None:
        """End the template process. Workers end with their connections."""
        with self._guard:
            self._end()

    def _forked(self, request: dict[str, Any], descriptors: list[int]) -> int:
        with self._guard:
            if self._process is None:
                self._launch()
            try:
                pid = self._ask(request, descriptors)
            except OSError:  # somebody killed or stopped it
                self._end()
                self._launch()
                pid = self._ask(request, descriptors)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def _launch(self) -> None:
        self._control, theirs = socket.socketpair()
        self._control.settimeout(ANSWER_SECONDS)
        with theirs:
            command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])

    def _end(self) -> None:
        control, self._control = self._control, None
        process, self._process = self._process, None
        if control is not None:
            control.close()
        if process is not None:
            try:
                process.wait(ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _ask(self, request: dict[str, Any], descriptors: list[int]) -> int:
        if self._control is None:
            raise ConnectionError("the template process has ended")
        data = json.dumps(request).encode()
        socket.send_fds(self._control, [LENGTH.pack(len(data))], descriptors)
        self._control.sendall(data)
        answer: int = LENGTH.unpack(read(self._control, LENGTH.size))[0]
        return answer


def read(connection: socket.socket, size: int) -> bytes:
    """Return the next `size` bytes. Raises `ConnectionError` if the other side ends before."""
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionResetError("the other process has ended")
        data += part
    return data


def _folder() -> str | None:
    with contextlib.suppress(FileNotFoundError):  # somebody deleted it
        return os.getcwd()
    return None


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
