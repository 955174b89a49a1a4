"""A disk after a power cut: the steps of a writer are recorded, and any prefix of them is replayed without what was not
synced.

Only what POSIX promises is kept: the bytes of a synced file, and a folder entry (a name that was linked, renamed,
removed or created there) once the folder was synced afterwards. What was not synced may be in any state.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from penstock.storage.stores import local

Content = dict[str, Any]
"""A folder: bytes and folders by name."""
Step = tuple[str, ...]
"""The operation and its names, relative to the root; after a `write`, its bytes as latin-1."""


class Recorder:
    """Record what is done to files below a folder while it is active."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.steps: list[Step] = []
        self._root = str(root)
        for name in ("link", "rename"):
            patch.setattr(os, name, self._noting(name, getattr(os, name), 2))
        for name in ("unlink", "mkdir"):
            patch.setattr(os, name, self._noting(name, getattr(os, name), 1))
        patch.setattr(os, "fsync", self._synced(os.fsync))
        patch.setattr(os, "open", self._opened(os.open))
        patch.setattr(local.Temporary, "write", self._written(local.Temporary.write, local.Temporary.fileno))
        patch.setattr(os, "write", self._written(os.write, int))

    def note(self, what: str, *names: str) -> None:
        """Record an event, such as that a call returned."""
        self.steps.append((what, *names))

    def _name(self, path: Any) -> str | None:
        text = os.fspath(path)
        return text[len(self._root) :].strip("/") if text == self._root or text.startswith(self._root + "/") else None

    def _noting(self, what: str, real: Callable[..., Any], paths: int) -> Callable[..., Any]:
        def step(*args: Any, **more: Any) -> Any:
            done = real(*args, **more)  # raises if it was not done
            folders = [more.get("src_dir_fd"), more.get("dst_dir_fd")] if paths == 2 else [more.get("dir_fd")]
            names = [self._name(_whole(path, folder)) for path, folder in zip(args, folders, strict=False)]
            if all(name for name in names):
                self.steps.append((what, *[name for name in names if name]))
            return done

        return step

    def _opened(self, real: Callable[..., int]) -> Callable[..., int]:
        def open(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            file = real(path, flags, *rest, **more)
            name = self._name(_whole(path, more.get("dir_fd"))) if flags & os.O_CREAT else None
            if name:
                self.steps.append(("create", name))
            return file

        return open

    def _written(self, real: Callable[..., int], number_of: Callable[[Any], int]) -> Callable[..., int]:
        def write(file: Any, data: Any) -> int:
            done = real(file, data)
            name = self._name(os.readlink(f"/proc/self/fd/{number_of(file)}"))
            if name:
                self.steps.append(("write", name, bytes(memoryview(data).cast("B")).decode("latin-1")))
            return done

        return write

    def _synced(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def fsync(file: int) -> None:
            path = os.readlink(f"/proc/self/fd/{file}")
            real(file)
            name = self._name(path)
            if name is not None:
                self.steps.append(("sync folder" if os.path.isdir(path) else "sync", name))

        return fsync


def _whole(path: Any, folder: int | None) -> str:
    return os.fspath(path) if folder is None else os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)


@dataclass(slots=True, eq=False)
class _File:
    data: bytes = b""
    synced: bytes | None = None


@dataclass(slots=True, eq=False)
class _Folder:
    entries: dict[str, _File | _Folder] = field(default_factory=dict)
    synced: dict[str, _File | _Folder] = field(default_factory=dict)
    pending: list[tuple[str, _File | _Folder | None]] = field(default_factory=list)
    """Changes since the last sync, in order; None: removed."""


class Disk:
    """The effect of the steps so far on an empty folder."""

    def __init__(self) -> None:
        self._root = _Folder()
        self._folders = [self._root]

    def do(self, step: Step) -> None:
        what, *names = step
        deed = getattr(self, f"_{what.replace(' ', '_')}", None)
        if deed is not None:
            deed(*names)

    def _folder(self, name: str) -> tuple[_Folder, str]:
        folder = self._root
        *above, last = name.split("/")
        for part in above:
            inner = folder.entries[part]
            assert isinstance(inner, _Folder)
            folder = inner
        return folder, last

    def _found(self, name: str) -> Any:
        folder, last = self._folder(name)
        return folder.entries[last]

    def _change(self, name: str, to: _File | _Folder | None) -> None:
        folder, last = self._folder(name)
        if to is None:
            folder.entries.pop(last)
        else:
            folder.entries[last] = to
        folder.pending.append((last, to))

    def _create(self, name: str) -> None:
        self._change(name, _File())

    def _mkdir(self, name: str) -> None:
        made = _Folder()
        self._folders.append(made)
        self._change(name, made)

    def _write(self, name: str, data: str) -> None:
        self._found(name).data += data.encode("latin-1")

    def _sync(self, name: str) -> None:
        file = self._found(name)
        file.synced = file.data

    def _sync_folder(self, name: str) -> None:
        folder = self._found(name) if name else self._root
        folder.synced, folder.pending = dict(folder.entries), []

    def _link(self, source: str, target: str) -> None:
        self._change(target, self._found(source))

    def _rename(self, source: str, target: str) -> None:
        file = self._found(source)
        self._change(source, None)
        self._change(target, file)

    def _unlink(self, name: str) -> None:
        self._change(name, None)

    def left_behind(self) -> Iterator[Content]:
        """Yield the folders that a power cut can leave: with all, none, one, or all but one of the unsynced changes,
        and with none or half of the unsynced bytes. Hidden files, which nobody reads, are omitted.
        """
        hidden = [each for name, each in self._root.entries.items() if name.startswith(".")]
        shown = [folder for folder in self._folders if folder not in hidden]
        pending = [(folder, i) for folder in shown for i in range(len(folder.pending))]
        chosen = [set(pending), set()]
        chosen += [{one} for one in pending] + [set(pending) - {one} for one in pending]
        for kept, half in itertools.product(chosen, (False, True)):
            yield _content(self._root, kept, half)


def _content(folder: _Folder, kept: set[tuple[_Folder, int]], half: bool) -> Content:
    entries = dict(folder.synced)
    for i, (name, to) in enumerate(folder.pending):
        if (folder, i) not in kept:
            continue
        if to is None:
            entries.pop(name, None)
        else:
            entries[name] = to
    return {
        name: _content(each, kept, half) if isinstance(each, _Folder) else _bytes(each, half)
        for name, each in entries.items()
        if not name.startswith(".")
    }


def _bytes(file: _File, half: bool) -> bytes:
    safe = file.synced or b""
    return safe + file.data[len(safe) :][: (len(file.data) - len(safe)) // 2] if half else safe


def write_out(content: Content, folder: Path) -> None:
    """Create the folder."""
    folder.mkdir(parents=True)
    for name, each in content.items():
        if isinstance(each, dict):
            write_out(each, folder / name)
        else:
            (folder / name).write_bytes(each)
