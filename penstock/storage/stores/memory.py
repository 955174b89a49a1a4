"""`MemoryStore`: a store in this process's memory, and the reference implementation for all others."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from penstock.errors import ConfigurationError, StoreError
from penstock.storage.stores.base import MAX_RECORD_BYTES, Listed, Reach, check_name, check_record


class MemoryStore:
    """Records and payloads in a dictionary, for tests and for flows whose results need not outlive the process.

    Safe for use by several threads. `MemoryStore.named("a")` and `open_store("memory://a")` return the same store
    everywhere in the process. It cannot be sent to other processes: unpickling it there raises `ConfigurationError`.
    """

    trusted = True

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.Lock()
        self._name: str | None = None

    @classmethod
    def named(cls, name: str) -> MemoryStore:
        """Return the process's store with this name, creating it if needed."""
        with _named_lock:
            store = _named.setdefault(name, cls())
            store._name = name
        return store

    @property
    def url(self) -> str:
        return f"memory://{self._name or ''}"

    @property
    def reach(self) -> Reach:
        return "process"

    def get(self, name: str) -> bytes | None:
        found = self._files.get(check_name(name))
        return None if found is None else found[0][: MAX_RECORD_BYTES + 1]

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        return [self.get(name) for name in names]

    def put_if_absent(self, name: str, data: bytes) -> bool:
        mine = (bytes(check_record(name, data)), time.time())
        with self._lock:
            return self._files.setdefault(check_name(name), mine) is mine

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        mine = (bytes(check_record(name, data)), time.time())
        with self._lock:
            self._files[check_name(name)] = mine

    def delete(self, name: str) -> None:
        with self._lock:
            self._files.pop(check_name(name), None)

    def list(self, prefix: str) -> Iterator[Listed]:
        if prefix:
            check_name(prefix.removesuffix("/"))
        with self._lock:
            found = sorted((name, file) for name, file in self._files.items() if name.startswith(prefix))
        return iter([Listed(name, len(data), modified) for name, (data, modified) in found])

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        check_name(name)
        file = io.BytesIO()
        yield file
        with self._lock:
            if name in self._files:
                raise StoreError("cannot write a payload twice", where=name, because="the name is taken")
            self._files[name] = (file.getvalue(), time.time())

    def open(self, name: str) -> BinaryIO:
        found = self._files.get(check_name(name))
        if found is None:
            raise FileNotFoundError(f"no {name} in {self.url}")
        return io.BytesIO(found[0])

    def local_path(self, name: str) -> str | None:
        check_name(name)
        return None

    def append(self, name: str, data: bytes) -> None:
        check_name(name)
        with self._lock:
            before = self._files[name][0] if name in self._files else b""
            self._files[name] = (before + data, time.time())

    def __reduce__(self) -> tuple[Any, ...]:
        return (_same_process, (os.getpid(), self._name))

    def __repr__(self) -> str:
        return f"MemoryStore({self.url!r}, {len(self._files)} files)"


# Named stores live as long as the process.
_named: dict[str, MemoryStore] = {}
_named_lock = threading.Lock()


def _same_process(pid: int, name: str | None) -> MemoryStore:
    if name is None or pid != os.getpid():
        raise ConfigurationError(
            "a memory store cannot be sent to another process",
            where=f"memory://{name or ''}",
            hint="use a store that the workers can reach: a shared folder or a bucket",
        )
    return MemoryStore.named(name)
