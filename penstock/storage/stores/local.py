"""`LocalStore`: a store in a local folder, or in a folder on a file system that several machines mount.

Bytes are written to a new file in `<root>/.tmp`, synced, and then named in one step: by `link` if the name must be
free, or `rename` if it may be replaced. So a name always refers to complete bytes or to nothing, even if a writer is
killed. The store keeps no state in the process: it is safe for any number of threads and processes, and after a fork.

Symbolic links below the root are never followed (penstock.storage.stores.folders), and only regular files are read and
written: pipes and devices are refused without blocking.
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
"""How often a write to a missing folder is tried, since pruning may remove the folder again while it is empty."""


class LocalStore:
    """Records and payloads as files in a folder, readable and writable by this user only.

    Needs a file system with hard links. On network file systems, `link` must be atomic.

    Args:
        root: The folder. It is created by the first write. It may be a symbolic link, but links below it are not
            followed.
        durable: False omits all fsync calls. A power cut may then lose, but never corrupt, what was just written. This
            is meant for locks, not for results.
        trusted: Whether everyone who can write to the folder is trusted like one's own code, so that pickles are read.
    """

    def __init__(self, root: str | os.PathLike[str], *, durable: bool = True, trusted: bool = False) -> None:
        self._root = os.path.abspath(os.path.expanduser(os.fspath(root)))
        self._durable = durable
        self._said_trusted = trusted
        self._settled: set[str] = set()  # shared folders whose own entries are durable

    @property
    def url(self) -> str:
        return Path(self._root).as_uri() + ("?trusted=true" if self._said_trusted else "")

    @property
    def reach(self) -> Reach:
        return "host"  # at least; network file systems look the same

    @property
    def trusted(self) -> bool:
        """Whether only this user and root can change the files, or the address says `?trusted=true`."""
        return self._said_trusted or not self.open_to

    @property
    def open_to(self) -> str:
        """The reason why other users can change the files; empty if they cannot."""
        try:
            if reason := others_can_lead_elsewhere(self._root):
                return reason
            with os.scandir(self._root) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(found.st_mode) and (reason := others_can_change(found)):
                        return f"{entry.path}: {reason}"
        except FileNotFoundError:
            pass  # the store does not exist yet
        except OSError as error:
            raise translated(error, "looking at", self._root) from error
        return ""

    # -- reading

    def get(self, name: str) -> bytes | None:
        return self.get_many((name,))[0]

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        # Optimised, since a warm run of 10 000 nodes spends most of its time here.
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
                            _check_regular(file)  # only needed if nothing was read, as from a pipe
                    finally:
                        close(file)
                    records.append(data)
        except FileNotFoundError:
            return [None for name in names if check_name(name)]  # the store does not exist
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
            # The folder belongs to this user only, but another user can change this file, or created it earlier.
            opened.close()
            raise StoreError(
                "refused to read a file that other users can change, in a store that only this user can write to",
                where=path,
                because=reason,
                hint="make the file your own (chown, chmod go-w) if you know where it comes from, or delete it",
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
                # Folders sort with a trailing slash, like their contents. Links to folders are skipped. Other entries
                # are listed, since their names are taken, and reading them raises an error.
                named = sorted(
                    entry.name + "/" * entry.is_dir()
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False) or not entry.is_dir()
                )
        except FileNotFoundError:
            return  # deleted since its parent was read
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
                raise StoreError("cannot write a payload twice", where=path, because="the name is taken")

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
                # A single write call, whose bytes the kernel keeps contiguous.
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

    # -- steps

    def _path(self, name: str) -> str:
        return f"{self._root}/{check_name(name)}"

    @contextmanager
    def _temporary(self, path: str) -> Iterator[tuple[Name, Temporary]]:
        """Create a temporary file, which is removed when the block ends; links to it stay."""
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
        """Open the root, creating it if needed."""
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
        """Link the file to a name if that is free. Return whether the file has the name."""
        path = f"{self._root}/{name}"
        try:
            descent, source, own = temporary
            self._in_folder(
                name,
                lambda at, last: os.link(own, last, src_dir_fd=source, dst_dir_fd=at, follow_symlinks=False),
                descent,
            )
        except FileExistsError:
            # On a network, the answer to our own link may be lost and the call repeated. The only possible second name
            # of this file is `path`.
            if os.fstat(raw.fileno()).st_nlink > 1:
                return True
            if os.path.isdir(path):  # listings do not show it, so the name would be tried endlessly
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
        """Run `step` with the open folder of `name`, creating the folder if needed; make the new entry durable."""
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
        """Make the entries of `folder` durable, and those of its parents up to the root.

        Another writer may have created a parent without having synced it yet. Durable entries stay durable, unless
        pruning removes empty folders; a writer that misses one clears `_settled`.
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
    """Return the status of an open file. Raises `OSError` if it is not a regular file."""
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return found
