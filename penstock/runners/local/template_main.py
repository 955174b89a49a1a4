"""The template process of ProcessRunner, which forks workers and tells how they ended until its driver ends."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from typing import Any

from penstock.runners.local import process_main
from penstock.runners.local.template import LENGTH, UNKNOWN, read


def main(descriptor: int) -> None:
    """Serve one driver over an inherited socket until it ends. In a worker, this returns when the worker ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, but the driver decides when to stop
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if the driver ignores it, so would this process, and reap nobody
    os.set_inheritable(descriptor, False)
    control = socket.socket(fileno=descriptor)
    gc.freeze()  # garbage collectors of workers would otherwise write to, and so copy, the memory that they share
    workers: dict[int, str] = {}  # with their folders
    while (received := _next_request(control)) is not None:
        request, descriptors = received
        if "reap" in request:
            answer = _reap(request["reap"])
            workers.pop(request["reap"], None)
        elif (answer := _fork()) == 0:
            control.close()
            _become_worker(request, descriptors)
            return
        elif answer > 0:
            workers[answer] = request["scratch"]
        for each in descriptors:
            os.close(each)
        with contextlib.suppress(ConnectionError):
            control.sendall(LENGTH.pack(answer))
    _end(workers)


def _next_request(control: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return a request with its descriptors, or None if the driver has ended."""
    try:
        length, descriptors, _, _ = socket.recv_fds(control, LENGTH.size, 6)
        for each in descriptors:
            os.set_inheritable(each, False)  # programs that tasks start would keep them open
        length += read(control, LENGTH.size - len(length))
        return json.loads(read(control, *LENGTH.unpack(length))), descriptors
    except ConnectionError:
        return None


def _reap(pid: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return UNKNOWN


def _fork() -> int:
    """Return the new process's id, 0 in that process, or minus an error number."""
    try:
        return os.fork()
    except OSError as error:
        return -(error.errno or 1)


def _become_worker(request: dict[str, Any], descriptors: list[int]) -> None:
    worker, life, ends, *streams = descriptors
    for ours, number in zip(streams, request["streams"], strict=True):
        os.dup2(ours, number)
        os.close(ours)
    if request["folder"] is not None:
        with contextlib.suppress(OSError):  # it may be deleted at any time
            os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.path[:] = request["path"]
    importlib.invalidate_caches()
    process_main.main(worker, life, ends, request["scratch"])


def _end(workers: dict[int, str]) -> None:
    """Kill the workers of a driver that has died: those in C code do not notice it."""
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    for pid in workers:
        _reap(pid)
    for folder in set(workers.values()):
        shutil.rmtree(folder, ignore_errors=True)
