"""Stores that fail, lose answers or are slow, as a test requests, and a clock that never waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, TypeVar

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.storage.stores.base import Listed, Reach, Store
from penstock.testing.clocks import FakeClock

When = Literal["before", "after"]
_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class _Scripted:
    method: str
    when: When
    act: Callable[[], None]
    times: int
    part: str


class FlakyStore:
    """A wrapper around a store in which selected calls fail.

    `fail("put_if_absent", StoreUnreachable(...), when="after")` loses one answer: the write succeeds, but the caller
    gets the error. `interrupt` runs a function at that point instead, such as a rival's commit, or waiting for an
    event. Methods are those of a store; `write` is a write to a file from `create`. `calls` lists all calls with their
    names.

    Args:
        store: The wrapped store.
    """

    def __init__(self, store: Store) -> None:
        self.inner = store
        self.calls: list[tuple[str, str]] = []
        self._script: list[_Scripted] = []
        self._lock = threading.Lock()

    def fail(self, method: str, error: BaseException, *, when: When = "before", times: int = 1, name: str = "") -> None:
        """Make the next calls of a method raise an error.

        Args:
            method: The method.
            error: The error to raise.
            when: Whether to raise it before or after the operation.
            times: How many calls fail.
            name: Only calls whose name contains this text fail.
        """

        def act() -> None:
            raise error

        self.interrupt(method, act, when=when, times=times, name=name)

    def interrupt(
        self, method: str, act: Callable[[], None], *, when: When = "before", times: int = 1, name: str = ""
    ) -> None:
        """Run a function in the next calls of a method. The other arguments are those of `fail`."""
        with self._lock:
            self._script.append(_Scripted(method, when, act, times, name))

    def count(self, method: str, name: str = "") -> int:
        """Return how many times a method was called with names that contain `name`."""
        return sum(1 for called, its in self.calls if called == method and name in its)

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def reach(self) -> Reach:
        return self.inner.reach

    @property
    def trusted(self) -> bool:
        return self.inner.trusted

    def get(self, name: str) -> bytes | None:
        return self._do("get", name, lambda: self.inner.get(name))

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        return self._do("get_many", " ".join(names), lambda: self.inner.get_many(names))

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return self._do("put_if_absent", name, lambda: self.inner.put_if_absent(name, data))

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        self._do("put", name, lambda: self.inner.put(name, data, durable=durable))

    def delete(self, name: str) -> None:
        self._do("delete", name, lambda: self.inner.delete(name))

    def list(self, prefix: str) -> Iterator[Listed]:
        return self._do("list", prefix, lambda: self.inner.list(prefix))

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        after = self._begin("create", name)
        with self.inner.create(name) as file:
            yield _FlakyFile(self, name, file)  # type: ignore[misc]  # has what serializers use of a file
        self._run(after)

    def open(self, name: str) -> BinaryIO:
        return self._do("open", name, lambda: self.inner.open(name))

    def local_path(self, name: str) -> str | None:
        return self.inner.local_path(name)

    def _do(self, method: str, name: str, deed: Callable[[], _Answer]) -> _Answer:
        after = self._begin(method, name)
        answer = deed()
        self._run(after)
        return answer

    def _begin(self, method: str, name: str) -> Sequence[_Scripted]:
        """Record a call and run what precedes it. Return what follows it."""
        with self._lock:
            self.calls.append((method, name))
            due = [each for each in self._script if each.method == method and each.part in name and each.times > 0]
            for each in due:
                each.times -= 1
        self._run([each for each in due if each.when == "before"])
        return [each for each in due if each.when == "after"]

    def _run(self, scripted: Sequence[_Scripted]) -> None:
        for each in scripted:
            each.act()

    def __repr__(self) -> str:
        return f"FlakyStore({self.inner!r})"


class _FlakyFile:
    def __init__(self, store: FlakyStore, name: str, file: BinaryIO) -> None:
        self._store, self._name, self._file = store, name, file

    def write(self, data: Any) -> int:
        return self._store._do("write", self._name, lambda: self._file.write(data))


class SlowStore:
    """A wrapper around a store in which every call takes `seconds` longer, as on a network.

    `round_trips` counts the calls.
    """

    def __init__(self, store: Store, *, seconds: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self.inner = store
        self.seconds = seconds
        self.round_trips = 0
        self._clock = clock
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def reach(self) -> Reach:
        return self.inner.reach

    @property
    def trusted(self) -> bool:
        return self.inner.trusted

    def get(self, name: str) -> bytes | None:
        self._trip()
        return self.inner.get(name)

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        self._trip()
        return self.inner.get_many(names)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        self._trip()
        return self.inner.put_if_absent(name, data)

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        self._trip()
        self.inner.put(name, data, durable=durable)

    def delete(self, name: str) -> None:
        self._trip()
        self.inner.delete(name)

    def list(self, prefix: str) -> Iterator[Listed]:
        self._trip()
        return self.inner.list(prefix)

    def create(self, name: str) -> AbstractContextManager[BinaryIO]:
        self._trip()
        return self.inner.create(name)

    def open(self, name: str) -> BinaryIO:
        self._trip()
        return self.inner.open(name)

    def local_path(self, name: str) -> str | None:
        return self.inner.local_path(name)

    def _trip(self) -> None:
        with self._lock:
            self.round_trips += 1
        self._clock.wait(threading.Event(), self.seconds)

    def __repr__(self) -> str:
        return f"SlowStore({self.inner!r}, {self.seconds:g} s)"


class HastyClock(FakeClock):
    """A fake clock for one thread that jumps ahead instead of waiting."""

    def wait(self, event: threading.Event, timeout: float) -> bool:
        if not event.is_set():
            self.advance(timeout)
        return event.is_set()
