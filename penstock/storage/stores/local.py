"""A store in a folder of this machine, or of a file system that several machines mount.

How the promises are kept: bytes are written to a file of their own in `<root>/.tmp`, synced, and then given their name
in one step, `link` where the name must be free and `rename` where it may be replaced. So a name leads to whole
bytes or to nothing, whoever is killed when. The store has no state in the process: it is safe for any number of threads
and processes, and after a fork.

Below the root no link is followed, whoever put it there and when (penstock.storage.stores.folders), and nothing is
read or written that is no ordinary file: a pipe or a device is refused without waiting for it.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from penstock.errors import StoreError, StoreNotWritable
from penstock.ownership import others_can_change, others_can_lead_elsewhere
from penstock.storage.stores.base import MAX_RECORD_BYTES, Listed, Reach, check_name, check_record
from penstock.storage.stores.folders import Descent
from penstock.storage.stores.local_errors import NO_LINKS, translated
from penstock.storage.stores.local_upkeep import disk_bytes, prune, sweep
from penstock.storage.stores.local_writes import CREATE, Name, Temporary, new_file

_Done = TypeVar("_Done")
_TEMPORARY = ".tmp"
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_BUFFER = 1 << 20
_TRIES = 8
"""Of a write whose folder is missing: an upkeep may remove it again while it is empty."""


class LocalStore:
    """Records and payloads as files below `root`, readable and writable for this user only.

    `root` is made on the first write. It may itself be a symbolic link; below it links are not followed.
    `durable=False` leaves out every fsync: a power cut may then lose what was just written (never tear it), which is
    right for locks and wrong for results.

    Needs a file system with hard links. Measured on ext4; network file systems must keep `link` atomic.
    """

    def __init__(self, root: str | os.PathLike[str], *, durable: bool = True, trusted: bool = False) -> None:
        """With `trusted` whoever can write there is trusted like one's own code, as in buckets."""
        self._root = os.path.abspath(os.path.expanduser(os.fspath(root)))
        self._durable = durable
        self._said_trusted = trusted
        self._settled: set[str] = set()  # folders that many files share and whose own entries are on disk

    @property
    def url(self) -> str:
        return Path(self._root).as_uri() + ("?trusted=true" if self._said_trusted else "")

    @property
    def reach(self) -> Reach:
        return "host"  # at least: folders of network file systems look the same

    @property
    def trusted(self) -> bool:
        """True if nobody but this user and root can change what is read here, or if the address says so."""
        return self._said_trusted or not self.open_to

    @property
    def open_to(self) -> str:
        """Why others can change what is read here; empty if they cannot."""
        try:
            if reason := others_can_lead_elsewhere(self._root):
                return reason
            with os.scandir(self._root) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(found.st_mode) and (reason := others_can_change(found)):
                        return f"{entry.path}: {reason}"
        except FileNotFoundError:
            pass  # nothing yet
        except OSError as error:
            raise translated(error, "looking at", self._root) from error
        return ""

    # -- reading

    def get(self, name: str) -> bytes | None:
        return self.get_many((name,))[0]

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        # Bare calls and one loop: a warm run of 10 000 nodes spends most of its time here.
        read, close = os.read, os.close
        records: list[bytes | None] = []
        name = ""
        try:
            with Descent(self._root) as descent:
                for name in names:
                    try:
                        file = descent.open(check_name(name), _READ)
                    except FileNotFoundError:
                        records.append(None)
                        continue
                    try:
                        data = read(file, MAX_RECORD_BYTES + 1)
                        if not data:
                            _check_regular(file)  # what is never empty needs no look: nothing waits for a pipe
                    finally:
                        close(file)
                    records.append(data)
        except FileNotFoundError:
            return [None for name in names if check_name(name)]  # there is no store
        except OSError as error:
            raise translated(error, "reading", f"{self._root}/{name}") from error
        return records

    def open(self, name: str) -> BinaryIO:
        path = self._path(name)
        try:
            with Descent(self._root) as descent:
                file = descent.open(name, _READ)
            try:
                found = _check_regular(file)
                opened = os.fdopen(file, "rb")
            except BaseException:
                os.close(file)
                raise
        except FileNotFoundError:
            raise
        except OSError as error:
            raise translated(error, "reading", path) from error
        if (reason := others_can_change(found)) and self.trusted and not self._said_trusted:
            # The folder is this user's alone, and yet somebody else can change this, or left it here once.
            opened.close()
            raise StoreError(
                "refused to read a file that others can change from a store that only this user can write to",
                where=path,
                because=reason,
                hint="make it your own (chown, chmod go-w) if you know where it comes from, or delete it",
            )
        return opened

    def local_path(self, name: str) -> str | None:
        return self._path(name)

    def list(self, prefix: str) -> Iterator[Listed]:
        if prefix:
            check_name(prefix.removesuffix("/"))
        try:
            with Descent(self._root) as descent:
                yield from self._walk(descent, prefix)
        except FileNotFoundError:
            return
        except OSError as error:
            raise translated(error, "listing", os.path.join(self._root, prefix)) from error

    def _walk(self, descent: Descent, prefix: str) -> Iterator[Listed]:
        try:
            folder = descent.to(prefix.removesuffix("/"))
            with os.scandir(folder) as found:
                entries = [entry for entry in found if not entry.name.startswith(".")]
                # A folder sorts as its contents do: with the slash. A link to one is passed over. What is neither a
                # folder nor a file has a name all the same: that is taken, and reading it says what it is.
                named = sorted(
                    entry.name + "/" * entry.is_dir()
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False) or not entry.is_dir()
                )
        except FileNotFoundError:
            return  # deleted since the folder above was read
        for name in named:
            if name.endswith("/"):
                yield from self._walk(descent, prefix + name)
                continue
            try:
                file = os.stat(name, dir_fd=descent.to(prefix.removesuffix("/")), follow_symlinks=False)
            except FileNotFoundError:
                continue  # deleted since
            yield Listed(prefix + name, file.st_size, file.st_mtime)

    # -- writing

    def put_if_absent(self, name: str, data: bytes) -> bool:
        path = self._path(name)
        with self._temporary(path) as (temporary, raw):
            raw.write(check_record(name, data))
            self._sync(raw)
            return self._link(temporary, raw, name)

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        path = self._path(name)
        with self._temporary(path) as (temporary, raw):
            raw.write(check_record(name, data))
            if durable:
                self._sync(raw)
            try:
                descent, source, own = temporary
                self._in_folder(
                    name, lambda at, last: os.rename(own, last, src_dir_fd=source, dst_dir_fd=at), descent, sync=durable
                )
            except OSError as error:
                raise translated(error, "writing", path) from error

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        path = self._path(name)
        with self._temporary(path) as (temporary, raw):
            file = io.BufferedWriter(raw, _BUFFER)
            try:
                yield file
                file.flush()
            finally:
                file.detach()
            self._sync(raw)
            if not self._link(temporary, raw, name):
                raise StoreError("a payload is written once", where=path, because="the name is taken")

    def append(self, name: str, data: bytes) -> None:
        path = self._path(name)
        try:
            flags = CREATE | os.O_APPEND
            with self._made() as descent:
                file = self._in_folder(
                    name, lambda at, last: os.open(last, flags, 0o600, dir_fd=at), descent, sync=False
                )
            try:
                _check_regular(file)
                # One write call: the kernel keeps its bytes together among appenders.
                if os.write(file, data) < len(data):
                    raise OSError(errno.ENOSPC, "only a part was written")
            finally:
                os.close(file)
        except OSError as error:
            raise translated(error, "writing", path) from error

    def delete(self, name: str) -> None:
        path = self._path(name)
        folder, _, last = name.rpartition("/")
        try:
            with Descent(self._root) as descent:
                os.unlink(last, dir_fd=descent.to(folder))
        except FileNotFoundError:
            return
        except OSError as error:
            raise translated(error, "writing", path) from error

    def sweep(self, *, older_than: float) -> int:
        try:
            removed = sweep(self._root, _TEMPORARY, older_than=older_than)
            prune(self._root, older_than=older_than)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise translated(error, "writing", f"{self._root}/{_TEMPORARY}") from error
        return removed

    def disk_bytes(self, prefix: str) -> int:
        return disk_bytes(self._path(prefix.removesuffix("/")) if prefix else self._root)

    # -- one step each

    def _path(self, name: str) -> str:
        return f"{self._root}/{check_name(name)}"

    @contextmanager
    def _temporary(self, path: str) -> Iterator[tuple[Name, Temporary]]:
        """A new file of our own beside the names, gone when the block ends (a link to it stays)."""
        name = os.urandom(12).hex()
        try:
            descent = self._made()
        except OSError as error:
            raise translated(error, "writing", path) from error
        with descent:
            try:
                folder = os.dup(descent.to(_TEMPORARY, make=True))
            except OSError as error:
                raise translated(error, "writing", path) from error
            try:
                temporary = Name(descent, folder, name)
                with new_file(temporary, path) as raw:
                    yield temporary, raw
            finally:
                self._drop(temporary)

    def _drop(self, temporary: Name) -> None:
        try:
            os.unlink(temporary.name, dir_fd=temporary.folder)
        except FileNotFoundError:
            pass  # renamed into place, or swept
        except OSError as error:
            raise translated(error, "writing", f"{self._root}/{_TEMPORARY}/{temporary.name}") from error
        finally:
            os.close(temporary.folder)

    def _made(self) -> Descent:
        """The root, made if it is missing."""
        try:
            return Descent(self._root)
        except FileNotFoundError:
            os.makedirs(self._root, 0o700, exist_ok=True)
            return Descent(self._root)

    def _sync(self, raw: Temporary) -> None:
        if self._durable:
            try:
                os.fsync(raw.fileno())
            except OSError as error:
                raise translated(error, "writing", raw.path) from error

    def _link(self, temporary: Name, raw: Temporary, name: str) -> bool:
        """Give the file the name `name` if that is free; True if it has it now."""
        path = f"{self._root}/{name}"
        try:
            descent, source, own = temporary
            self._in_folder(
                name,
                lambda at, last: os.link(own, last, src_dir_fd=source, dst_dir_fd=at, follow_symlinks=False),
                descent,
            )
        except FileExistsError:
            # Over a network the answer to our own link may be lost and the call sent again. A second name of this
            # file can only be `path`.
            if os.fstat(raw.fileno()).st_nlink > 1:
                return True
            if os.path.isdir(path):  # a name that no listing shows would be tried for ever
                raise translated(OSError(errno.EISDIR, os.strerror(errno.EISDIR)), "writing", path) from None
            return False
        except OSError as error:
            if error.errno in NO_LINKS:
                raise StoreNotWritable(
                    "the store's file system has no hard links",
                    where=path,
                    because=str(error),
                    hint="put the store on a file system that has them, such as ext4, xfs, btrfs, APFS or NFS",
                ) from error
            raise translated(error, "writing", path) from error
        return True

    def _in_folder(self, name: str, step: Callable[[int, str], _Done], descent: Descent, *, sync: bool = True) -> _Done:
        """Do `step` with the open folder of `name`, which is made if it is missing; make the new entry durable."""
        folder, _, last = name.rpartition("/")
        for left in reversed(range(_TRIES)):
            try:
                at = descent.to(folder, make=True)
                if not self._settled.isdisjoint(descent.made):
                    self._settled.clear()  # somebody removed what was there
                done = step(at, last)
            except FileNotFoundError:
                descent.to("")  # somebody removed a folder while it was open
                self._settled.clear()
                if not left:
                    raise
                continue
            if sync and self._durable:
                self._sync_up(folder, descent.opened())
            return done
        raise AssertionError("the last try returns or raises")

    def _sync_up(self, folder: str, opened: Sequence[int]) -> None:
        """Make the entries of `folder` durable, and those that lead to it from the root.

        Another writer may have made a folder above and not have synced it yet. But once an entry is on disk it stays
        there, unless an upkeep removes folders that are empty, and whoever then misses one forgets what is settled.
        """
        os.fsync(opened[0])
        for file in opened[1:]:
            folder = folder.rpartition("/")[0]
            os.fsync(file)
            if folder in self._settled:
                return
            self._settled.add(folder)

    def __repr__(self) -> str:
        return f"LocalStore({self._root!r})"


def _check_regular(file: int) -> os.stat_result:
    """What is known of an open file; raises `OSError` for what is none, such as a folder or a pipe."""
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return found
