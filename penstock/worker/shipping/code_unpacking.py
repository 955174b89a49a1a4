"""Shipped packages on workers: each version is unpacked once, put at the front of the import path, and removed when a
run sends another version.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import glob
import importlib
import importlib.machinery
import io
import linecache
import os
import platform
import shutil
import sys
import tempfile
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator

from penstock.errors import RunnerError, is_a
from penstock.worker.shipping.code_packing import Shipment, this_platform

_PREFIX = "penstock-shipped-"
_FILES = "files"
_WAIT_SECONDS = 0.2
"""The interval at which a waiting thread can be interrupted."""


@contextlib.contextmanager
def in_use(shipment: Shipment | None) -> Iterator[int]:
    """Make imports find the shipped packages during the block.

    Yields a number that changes whenever modules were removed: objects unpickled before belong to the old modules.
    Blocks of this process with other versions of the same packages wait for the end of this one, since a name stands
    for one module at a time. Modules that were not shipped keep what they imported from older versions.

    Raises `RunnerError` if compiled extensions do not match the platform, or would have to be loaded a second time.
    """
    if shipment is None:
        yield 0
        return
    with _turns:
        while any(_users[other.digest] and _rivals(other, shipment) for other in _active):
            _turns.wait(_WAIT_SECONDS)
        if all(shipment.digest != each.digest for each in _active):
            _activate(shipment)
        _users[shipment.digest] += 1
        epoch = _epochs[shipment.digest]
    try:
        yield epoch
    finally:
        with _turns:
            _users[shipment.digest] -= 1
            _turns.notify_all()


def explained(error: BaseException) -> BaseException:
    """Return the error to report for an error in unpickling; a missing package becomes a `RunnerError` with a hint."""
    if not is_a(error, ModuleNotFoundError) or not error.name:
        return error
    name = error.name.partition(".")[0]
    told = RunnerError(
        f"a worker cannot import {error.name}",
        where=f"{platform.node()}:{os.getpid()}",
        because=str(error),
        hint=f"install it on the workers, or ship it if it is a package of your project: ship=[{name!r}]",
    )
    told.__cause__ = error
    return told


_turns = threading.Condition()
_active: list[Shipment] = []
_users: Counter[str] = Counter()
_epochs: dict[str, int] = {}
_folders: dict[str, str] = {}


def _rivals(one: Shipment, other: Shipment) -> bool:
    return one.digest != other.digest and not one.names.isdisjoint(other.names)


def _activate(shipment: Shipment) -> None:
    """Make imports find these files, and nothing else under their names."""
    if shipment.platform not in ("", this_platform()):
        raise RunnerError(
            f"{', '.join(sorted(shipment.names))} cannot be shipped to this worker",
            where=f"{platform.node()}:{os.getpid()}",
            because=f"its compiled extensions are for {shipment.platform}, but this is {this_platform()}",
            hint="install the package on the workers",
        )
    folder = _folders.get(shipment.digest) or _unpack(shipment)
    _forget(shipment.names, but=folder)
    for rival in [each for each in _active if _rivals(each, shipment)]:
        _forget(rival.names, but=folder)
        _active.remove(rival)
        with contextlib.suppress(ValueError):
            sys.path.remove(_folders[rival.digest])
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    linecache.checkcache()
    _active.append(shipment)
    _epochs[shipment.digest] = sum(_epochs.values()) + 1


def _forget(names: frozenset[str], *, but: str) -> None:
    """Remove modules of these names that come from other folders."""
    found = [name for name in sys.modules if name.partition(".")[0] in names]
    old = [name for name in found if not (getattr(sys.modules[name], "__file__", None) or "").startswith(but)]
    for name in old:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
            raise RunnerError(
                f"another version of {name} is already loaded in this worker",
                where=f"{platform.node()}:{os.getpid()}",
                because="a process cannot load a compiled extension twice",
                hint="restart the workers after changing compiled code",
            )
    for name in old:
        del sys.modules[name]


def _unpack(shipment: Shipment) -> str:
    """Unpack the files into a folder that is removed when this process ends, and return it."""
    base = tempfile.gettempdir()
    _remove_left(base)
    new = tempfile.mkdtemp(prefix="penstock-shipping-", dir=base)
    lock = os.open(os.path.join(new, "lock"), os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)  # held until this process ends
    with zipfile.ZipFile(io.BytesIO(shipment.archive)) as archive:
        archive.extractall(os.path.join(new, _FILES))
    # Renamed only after locking, so that other processes do not remove it as a leftover.
    kept = os.path.join(base, _PREFIX + os.path.basename(new).rpartition("-")[2])
    os.rename(new, kept)
    atexit.register(_remove, kept, os.getpid())
    folder = _folders[shipment.digest] = os.path.join(kept, _FILES)
    return folder


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked process
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left(base: str) -> None:
    """Remove the folders of processes that were killed."""
    for folder in glob.glob(os.path.join(glob.escape(base), _PREFIX + "*")):
        with contextlib.suppress(OSError):  # owned by another user, or just removed
            lock = os.open(os.path.join(folder, "lock"), os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
