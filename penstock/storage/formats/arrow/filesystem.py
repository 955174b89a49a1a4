"""The files of a store as a pyarrow file system, which pyarrow's own threads open through the store.

These threads release files late, possibly when the program is ending. A thread that calls into Python then crashes the
process (`terminate called without an active exception`). Therefore file systems are created once and kept, and at exit
the program waits a moment until all files are released.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.fs as pafs

from penstock.errors import StoreError
from penstock.storage.formats.arrow.checked_files import CheckedFile
from penstock.storage.formats.verified_files import StoredFile
from penstock.storage.stores.base import Store
from penstock.storage.stores.objects import ObjectStore

_EXIT_SECONDS = 1.0


def filesystem_of(store: Store) -> Any:
    """Return the file system of a store, one for each store in this process."""
    # Thousands of stores in buckets may be unpickled; those with the same address are equal.
    key = (type(store), store.url) if isinstance(store, ObjectStore) else (type(store), id(store))
    with _guard:
        found = _filesystems.get(key)
        if found is None:
            found = _filesystems[key] = pafs.PyFileSystem(_StoredFiles(store))
    return found


def path_of(file: StoredFile) -> str:
    """Return the path of a file in the file system, which contains its size."""
    return f"{file.size}/{file.name}"


_guard = threading.Lock()
_filesystems: dict[tuple[type, Any], Any] = {}
_opened: dict[int, weakref.ref[Any]] = {}
"""Files that pyarrow has not released, by id."""
_let_go = threading.Condition(threading.RLock())


def _watched(file: Any) -> Any:
    number = id(file)

    def gone(_: Any) -> None:
        # May run anywhere, even in a thread that holds the lock.
        with _let_go:
            _opened.pop(number, None)
            _let_go.notify_all()

    with _let_go:
        _opened[number] = weakref.ref(file, gone)
    return file


@atexit.register
def _wait_until_let_go() -> None:
    """Wait until all files are released, but not long: the program may still hold a reader of a Dataset."""
    deadline = time.monotonic() + _EXIT_SECONDS
    with _let_go:
        while _opened and (left := deadline - time.monotonic()) > 0:
            _let_go.wait(left)


class _StoredFiles(pafs.FileSystemHandler):  # type: ignore[misc]
    """Files of a store, accessible by name and size only. Cannot list or write."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get_type_name(self) -> str:
        return "penstock"

    def get_file_info(self, paths: Sequence[str]) -> list[Any]:
        return [pafs.FileInfo(path, pafs.FileType.File, size=_file(self._store, path).size) for path in paths]

    def get_file_info_selector(self, selector: Any) -> list[Any]:
        return []

    def open_input_file(self, path: str) -> Any:
        file = _file(self._store, path)
        opened = _watched(file.open())
        return pa.PythonFile(opened if self._store.trusted else CheckedFile(opened, file.size), mode="r")

    def open_input_stream(self, path: str) -> Any:
        return self.open_input_file(path)

    def normalize_path(self, path: str) -> str:
        return path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _StoredFiles) and self._store is other._store

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise StoreError("cannot change a stored result", because="its files are written once")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = move = _refuse
    copy_file = open_output_stream = open_append_stream = _refuse


def _file(store: Store, path: str) -> StoredFile:
    size, _, name = path.partition("/")
    if not size.isdecimal() or name.count("/") < 2:
        raise FileNotFoundError(path)
    return StoredFile(store, name, int(size), "", name.split("/")[1])
