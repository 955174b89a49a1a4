"""A store in a folder of this machine, or of a file system that several machines mount.

How the promises are kept: bytes are written to a file of their own in `<root>/.tmp`, synced, and then given their name
in one step, `link` where the name must be free and `rename` where it may be replaced. So a name leads to whole
bytes or to nothing, whoever is killed when. The store has no state in the process: it is safe for any number of threads
and processes, and after a fork.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from penstock.errors import StoreError, StoreFull, StoreNotWritable, StoreUnreachable
from penstock.storage.stores import MAX_RECORD_BYTES, Listed, check_name, check_record

_Done = TypeVar("_Done")
_TEMPORARY = ".tmp"
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_BUFFER = 1 << 20


class LocalStore:
    """Records and payloads as files below `root`, readable and writable for this user only.

    `root` is made on the first write. It may itself be a symbolic link; below it links are not followed by anything
    that writes, deletes or lists, and not read as a record or payload. `durable=False` leaves out every fsync: a power
    cut may then lose what was just written (never tear it), which is right for locks and wrong for results.

    Needs a file system with hard links. Measured on ext4; network file systems must keep `link` atomic.
    """

    def __init__(self, root: str | os.PathLike[str], *, durable: bool = True) -> None:
        self._root = os.path.abspath(os.path.expanduser(os.fspath(root)))
        self._durable = durable
        self._settled: set[str] = set()  # folders that many files share and whose own entries are on disk

    @property
    def url(self) -> str:
        return Path(self._root).as_uri()

    @property
    def trusted(self) -> bool:
        """False if any user of the machine may write into the root."""
        try:
            return not os.stat(self._root).st_mode & stat.S_IWOTH
        except FileNotFoundError:
            return True
        except OSError as error:
            raise _translated(error, "looking at", self._root) from error

    # -- reading

    def get(self, name: str) -> bytes | None:
        return self.get_many((name,))[0]

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        # Bare calls and one loop: a warm run of 10 000 nodes spends most of its time here.
        root, open_, read, close = self._root + "/", os.open, os.read, os.close
        records: list[bytes | None] = []
        for name in names:
            try:
                file = open_(root + check_name(name), _READ)
            except FileNotFoundError:
                records.append(None)
                continue
            except OSError as error:
                raise _translated(error, "reading", root + name) from error
            try:
                records.append(read(file, MAX_RECORD_BYTES + 1))
            except OSError as error:
                raise _translated(error, "reading", root + name) from error
            finally:
                close(file)
        return records

    def open(self, name: str) -> BinaryIO:
        path = self._path(name)
        try:
            return os.fdopen(os.open(path, _READ), "rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _translated(error, "reading", path) from error

    def local_path(self, name: str) -> str | None:
        return self._path(name)

    def list(self, prefix: str) -> Iterator[Listed]:
        if prefix:
            check_name(prefix.removesuffix("/"))
        return self._walk(prefix)

    def _walk(self, prefix: str) -> Iterator[Listed]:
        try:
            with os.scandir(os.path.join(self._root, prefix)) as folder:
                entries = [e for e in folder if not e.name.startswith(".")]
            # A folder sorts as its contents do: with the slash.
            named = sorted((e.name + "/" * e.is_dir(follow_symlinks=False), e) for e in entries if not e.is_symlink())
        except FileNotFoundError:
            return
        except OSError as error:
            raise _translated(error, "listing", os.path.join(self._root, prefix)) from error
        for name, entry in named:
            if name.endswith("/"):
                yield from self._walk(prefix + name)
                continue
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # deleted since the folder was read
            yield Listed(prefix + name, found.st_size, found.st_mtime)

    # -- writing

    def put_if_absent(self, name: str, data: bytes) -> bool:
        path = self._path_to_write(name)
        with self._temporary(path) as (temporary, raw):
            raw.write(check_record(name, data))
            self._sync(raw)
            return self._link(temporary, raw, path)

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        path = self._path_to_write(name)
        with self._temporary(path) as (temporary, raw):
            raw.write(check_record(name, data))
            if durable:
                self._sync(raw)
            try:
                self._in_folder(path, lambda: os.rename(temporary, path), sync=durable)
            except OSError as error:
                raise _translated(error, "writing", path) from error

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        path = self._path_to_write(name)
        with self._temporary(path) as (temporary, raw):
            file = io.BufferedWriter(raw, _BUFFER)
            try:
                yield file
                file.flush()
            finally:
                file.detach()
            self._sync(raw)
            if not self._link(temporary, raw, path):
                raise StoreError("a payload is written once", where=path, because="the name is taken")

    def append(self, name: str, data: bytes) -> None:
        path = self._path_to_write(name)
        try:
            file = self._in_folder(path, lambda: os.open(path, _CREATE | os.O_APPEND, 0o600), sync=False)
            try:
                # One write call: the kernel keeps its bytes together among appenders.
                if os.write(file, data) < len(data):
                    raise OSError(errno.ENOSPC, "only a part was written")
            finally:
                os.close(file)
        except OSError as error:
            raise _translated(error, "writing", path) from error

    def delete(self, name: str) -> None:
        path = self._path_to_write(name)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _translated(error, "writing", path) from error

    def sweep(self, *, older_than: float) -> int:
        folder, removed = os.path.join(self._root, _TEMPORARY), 0
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime >= older_than:
                        os.unlink(entry.path)
                        removed += 1
        except FileNotFoundError:
            return removed
        except OSError as error:
            raise _translated(error, "writing", folder) from error
        return removed

    # -- one step each

    def _path(self, name: str) -> str:
        return f"{self._root}/{check_name(name)}"

    def _path_to_write(self, name: str) -> str:
        path = self._path(name)
        inside = os.path.dirname(path)[len(self._root) :]
        # O_NOFOLLOW guards only the last step of a path; a link above it would take writes and deletions elsewhere.
        if os.path.realpath(self._root + inside) != os.path.realpath(self._root) + inside:
            raise _translated(OSError(errno.ELOOP, "a folder is a symbolic link"), "writing", path)
        return path

    @contextmanager
    def _temporary(self, path: str) -> Iterator[tuple[str, _Temporary]]:
        """A new file of our own beside the names, gone when the block ends (a link to it stays)."""
        temporary = f"{self._root}/{_TEMPORARY}/{os.urandom(12).hex()}"
        try:
            raw = _Temporary(
                self._in_folder(temporary, lambda: _new_file(temporary), sync=False),
                path,
            )
        except OSError as error:
            raise _translated(error, "writing", path) from error
        try:
            yield temporary, raw
        finally:
            raw.close()
            try:
                os.unlink(temporary)
            except FileNotFoundError:
                pass  # renamed into place, or swept
            except OSError as error:
                raise _translated(error, "writing", temporary) from error

    def _sync(self, raw: _Temporary) -> None:
        if self._durable:
            try:
                os.fsync(raw.fileno())
            except OSError as error:
                raise _translated(error, "writing", raw.path) from error

    def _link(self, temporary: str, raw: _Temporary, path: str) -> bool:
        """Give the file the name `path` if that is free; True if it has it now."""
        try:
            self._in_folder(path, lambda: os.link(temporary, path, follow_symlinks=False))
        except FileExistsError:
            # Over a network the answer to our own link may be lost and the call sent again. A second name of this
            # file can only be `path`.
            return os.fstat(raw.fileno()).st_nlink > 1
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise StoreNotWritable(
                    "the store's file system has no hard links",
                    where=path,
                    because=str(error),
                    hint="put the store on a file system that has them, such as ext4, xfs, btrfs, APFS or NFS",
                ) from error
            raise _translated(error, "writing", path) from error
        return True

    def _in_folder(self, path: str, step: Callable[[], _Done], *, sync: bool = True) -> _Done:
        """Do `step`, making the folder of `path` if it is missing, and make the new entry durable."""
        folder = os.path.dirname(path)
        try:
            done = step()
        except FileNotFoundError:
            os.makedirs(self._root, 0o700, exist_ok=True)
            self._make_folder(folder)
            done = step()
        if sync and self._durable:
            self._sync_up(folder)
        return done

    def _sync_up(self, folder: str) -> None:
        """Make the entries of `folder` durable, and those that lead to it from the root.

        Another writer may have made a folder above and not have synced it yet. But once an entry is on disk it stays
        there: nothing here removes folders.
        """
        _sync_folder(folder)
        above = os.path.dirname(folder)
        while len(above) >= len(self._root):
            _sync_folder(above)
            if above in self._settled:
                return
            self._settled.add(above)
            above = os.path.dirname(above)

    def _make_folder(self, folder: str) -> None:
        """Make `folder` and what is missing between it and the root."""
        try:
            os.mkdir(folder, 0o700)
        except FileNotFoundError:
            self._settled.clear()  # somebody removed what was there, or it is all new
            self._make_folder(os.path.dirname(folder))
            self._make_folder(folder)
        except FileExistsError:
            pass  # another writer was quicker; if it is no folder, the step says so

    def __repr__(self) -> str:
        return f"LocalStore({self._root!r})"


class _Temporary(io.FileIO):
    """An open temporary file whose failing writes say what they mean to the store."""

    def __init__(self, file: int, path: str) -> None:
        super().__init__(file, "wb")
        self.path = path

    def write(self, data: Any) -> int:
        # Translated here and not around the caller's block: the caller's own OSErrors are not ours to rename.
        try:
            view, done = memoryview(data).cast("B"), 0
            while done < len(view):
                done += super().write(view[done:]) or 0
            return done
        except OSError as error:
            raise _translated(error, "writing", self.path) from error


def _new_file(path: str) -> int:
    return os.open(path, _CREATE | os.O_EXCL, 0o600)


def _sync_folder(folder: str) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}
_FULL = {errno.ENOSPC, errno.EDQUOT}


def _translated(error: OSError, doing: str, path: str) -> StoreError:
    """What an OSError means for the store: the one place that decides."""
    because = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _FULL:
        return StoreFull(
            "the store is full",
            where=path,
            because=because,
            hint="free some space, then run it again",
        )
    if error.errno == errno.ELOOP:
        return StoreError(
            "refused to follow a symbolic link in the store",
            where=path,
            hint="remove the link",
        )
    if doing == "writing" and error.errno in _READ_ONLY | {errno.ENOTDIR}:
        return StoreNotWritable(
            "the store cannot be written",
            where=path,
            because=because,
            hint="choose a folder that this user may write",
        )
    return StoreUnreachable(f"{doing} failed", where=path, because=because)
