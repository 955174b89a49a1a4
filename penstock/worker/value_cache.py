"""Stored values that several calls of a run need, read from the store once in a worker process.

What is kept is never handed out: each consumer gets a copy of its own, as if it had read the value itself.
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
"""So much is kept in a process, the latest used: a share that any worker can spare. What is larger each call reads."""
IDLE_SECONDS = 10.0
"""In processes that outlive a run, what nobody asked for in so long is let go of."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A value that is being read, or was."""

    loaded: Future[Callable[[], Any] | None] = field(default_factory=Future)
    """What makes a copy; None if each has to read it."""
    size: int = 0


class ValueCache:
    """The values that one run shares in this process. For any number of threads."""

    def __init__(self, *, most: int = KEPT_BYTES, idle_seconds: float | None = None) -> None:
        """With `idle_seconds`, everything goes when nothing was asked for in that time."""
        self._most = most
        self._idle_seconds = idle_seconds
        self._guard = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._size = 0
        self._used = 0
        self._timer: threading.Timer | None = None

    def get(self, key: Hashable, size: int, load: Callable[[], Any], *, shared: bool) -> Any:
        """A value that nobody else has, by `load` if it is not known; raises what that raises.

        It is kept if others will ask for it (`shared`). `size` are its stored bytes. Several that ask at the same time
        wait for one of them to load it.
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
            if not entry.loaded.done():  # also if this thread was interrupted: that is not the others' affair
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
        """See to it that everything goes once nobody asks any more."""
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
    """What arrays and tables say they take in memory; compressed, they are smaller in the store."""
    if hasattr(value, "memory_usage") and hasattr(value, "columns"):
        return int(value.memory_usage().sum())
    return nbytes_of(value)


def _copier(value: Any) -> Callable[[], Any] | None:
    """What makes copies of the value, which is kept for that; None if there is no way."""
    try:
        own_copy(value)
    except CannotCopy:
        pass
    else:
        return lambda: own_copy(value)
    try:
        packed: Any = pack(value, inline=-1)
        unpack(packed)
    except Exception:  # noqa: BLE001 (pickling is users' code; then each reads the value from the store)
        return None
    return lambda: unpack(packed)
