"""Shipped packages on the side of workers: unpacked once for each content, found before all others, and forgotten
when a run brings other contents under the same names.
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
"""A thread that waits for its turn can be interrupted so often."""


@contextlib.contextmanager
def in_use(shipment: Shipment | None) -> Iterator[int]:
    """In the block, imports find what was shipped.

    Gives a number that is another one whenever modules have been forgotten since: what was unpickled before belongs to
    the old ones. Blocks with other contents of the same names wait for this one's end, in this process: a module's name
    stands for one module at a time. Modules that were not shipped keep what they imported from older contents.

    Raises `RunnerError` where compiled extensions do not fit, or would have to be loaded a second time.
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
    """What to tell of an error in unpickling tasks and arguments: a package that is not here has its way out."""
    if not is_a(error, ModuleNotFoundError) or not error.name:
        return error
    name = error.name.partition(".")[0]
    told = RunnerError(
        f"a worker cannot import {error.name}",
        where=f"{platform.node()}:{os.getpid()}",
        because=str(error),
        hint=f"install it there, or send it along if it is a package of your project: ship=[{name!r}]",
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
    """Have imports find these files, and nothing else under their names."""
    if shipment.platform not in ("", this_platform()):
        raise RunnerError(
            f"{', '.join(sorted(shipment.names))} cannot be shipped to this worker",
            where=f"{platform.node()}:{os.getpid()}",
            because=f"compiled extensions are for {shipment.platform}, this is {this_platform()}",
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
    """Forget the modules of these names that come from elsewhere."""
    found = [name for name in sys.modules if name.partition(".")[0] in names]
    old = [name for name in found if not (getattr(sys.modules[name], "__file__", None) or "").startswith(but)]
    for name in old:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
            raise RunnerError(
                f"another {name} is loaded in this worker already",
                where=f"{platform.node()}:{os.getpid()}",
                because="a compiled extension cannot be loaded a second time by one process",
                hint="restart the workers after changing compiled code",
            )
    for name in old:
        del sys.modules[name]


def _unpack(shipment: Shipment) -> str:
    """The folder with the files, which goes when this process ends."""
    base = tempfile.gettempdir()
    _remove_left(base)
    new = tempfile.mkdtemp(prefix="penstock-shipping-", dir=base)
    lock = os.open(os.path.join(new, "lock"), os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)  # until this process ends, however it does
    with zipfile.ZipFile(io.BytesIO(shipment.archive)) as archive:
        archive.extractall(os.path.join(new, _FILES))
    # Under the name that others look for only now: with the lock, nobody takes it for one that was left.
    kept = os.path.join(base, _PREFIX + os.path.basename(new).rpartition("-")[2])
    os.rename(new, kept)
    atexit.register(_remove, kept, os.getpid())
    folder = _folders[shipment.digest] = os.path.join(kept, _FILES)
    return folder


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not in a process that was forked off
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left(base: str) -> None:
    """Remove the folders of processes that were killed."""
    for folder in glob.glob(os.path.join(glob.escape(base), _PREFIX + "*")):
        with contextlib.suppress(OSError):  # another user's, or just gone
            lock = os.open(os.path.join(folder, "lock"), os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
