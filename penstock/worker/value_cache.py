"""A cache of stored values that several calls of a run need, each read once per worker process.

Cached values are never handed out: each consumer gets its own copy, as if it had read the value itself.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from penstock.objects.copies import own_copy
from penstock.objects.package_copies import CannotCopy
from penstock.storage.formats.sizes import nbytes_of
from penstock.worker.shipping.shared_buffers import pack, unpack

KEPT_BYTES = 256 * 2**20
"""The size of the cache of a process, which keeps the last used values. Larger values are read by each call."""
IDLE_SECONDS = 10.0
"""In processes that outlive a run, the cache is cleared after this time without a request."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A value that is being read or was read."""

    loaded: Future[Callable[[], Any] | None] = field(default_factory=Future)
    """Returns a copy; None if each consumer must read the value."""
    size: int = 0


class ValueCache:
    """The values that one run shares in this process. Safe for use by several threads."""

    def __init__(self, *, most: int = KEPT_BYTES, idle_seconds: float | None = None) -> None:
        """With `idle_seconds`, the cache is cleared after that time without a request."""
        self._most = most
        self._idle_seconds = idle_seconds
        self._guard = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._size = 0
        self._used = 0
        self._timer: threading.Timer | None = None

    def get(self, key: Hashable, size: int, load: Callable[[], Any], *, shared: bool) -> Any:
        """Return a private copy of a value, loading it if needed. Raises whatever `load` raises.

        Concurrent requests for one key wait for a single load.

        Args:
            key: Identifies the value.
            size: The number of stored bytes.
            load: Reads the value.
            shared: Whether other calls will request it, so that it should be cached.
        """
        with self._guard:
            self._used += 1
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
            elif shared:
                self._entries[key] = mine = _Entry()
        if entry is not None:
            copy = entry.loaded.result()
            return load() if copy is None else copy()
        return self._load(key, mine, size, load) if shared else load()

    def _load(self, key: Hashable, entry: _Entry, size: int, load: Callable[[], Any]) -> Any:
        copy: Callable[[], Any] | None = None
        try:
            value = load()
            size = max(size, _bytes_of(value))
            if size <= self._most:
                copy = _copier(value)
            return value if copy is None else copy()
        except Exception as error:
            self._forget(key, entry)
            entry.loaded.set_exception(error)
            raise
        finally:
            if not entry.loaded.done():  # also if this thread was interrupted, which must not affect the others
                self._settle(key, entry, copy, size)

    def _settle(self, key: Hashable, entry: _Entry, copy: Callable[[], Any] | None, size: int) -> None:
        if copy is None:
            self._forget(key, entry)
        else:
            with self._guard:
                entry.size = size
                self._size += size
                for other, old in list(self._entries.items()):
                    if self._size <= self._most:
                        break
                    if old is not entry and old.loaded.done():
                        del self._entries[other]
                        self._size -= old.size
                self._watch()
        entry.loaded.set_result(copy)

    def _forget(self, key: Hashable, entry: _Entry) -> None:
        with self._guard:
            if self._entries.get(key) is entry:
                del self._entries[key]

    def _watch(self) -> None:
        """Clear the cache once there are no more requests."""
        if self._idle_seconds is None or self._timer is not None:
            return
        self._timer = threading.Timer(self._idle_seconds, self._let_go_if_idle, (self._used,))
        self._timer.daemon = True
        self._timer.start()

    def _let_go_if_idle(self, used: int) -> None:
        with self._guard:
            self._timer = None
            if used != self._used:
                self._watch()
                return
            self._entries = OrderedDict((k, e) for k, e in self._entries.items() if not e.loaded.done())
            self._size = 0


def _bytes_of(value: Any) -> int:
    """Return the size of arrays and tables in memory, where they are larger than compressed in the store."""
    if hasattr(value, "memory_usage") and hasattr(value, "columns"):
        return int(value.memory_usage().sum())
    return nbytes_of(value)


def _copier(value: Any) -> Callable[[], Any] | None:
    """Return a function that copies the value, or None if it cannot be copied."""
    try:
        own_copy(value)
    except CannotCopy:
        pass
    else:
        return lambda: own_copy(value)
    try:
        packed: Any = pack(value, inline=-1)
        unpack(packed)
    except Exception:  # noqa: BLE001 (pickling runs users' code; each consumer then reads the value from the store)
        return None
    return lambda: unpack(packed)
