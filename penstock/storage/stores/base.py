"""The interface of stores, which hold small records and large payloads.

A store has two halves:

* A **SlotStore** holds small records (at most `MAX_RECORD_BYTES`). All guarantees of Penstock rest on its method
  `put_if_absent`; see docs/protocol.md. It has no default implementation: one with a race would silently break them.
* A **PayloadStore** holds the bytes of results, under names that are written once and never changed.

Optional abilities have protocols of their own: **AppendStore** (logs), **SweepStore** (leftovers of killed writers),
**DiskStore** (disk usage), **ProbedStore** (services that may not do what they say), **RememberedStore** (records that
are cached elsewhere), **ExplainedStore** (the reason why a store is not trusted).

Names are relative and `/`-separated. Penstock makes them (`results/…`), never users. A store must accept every name
that `check_name` accepts, and refuse all others. A name is never also the folder of another name. Implementations are
verified by `penstock.testing.stores.StoreTests`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol, runtime_checkable

from penstock.errors import StoreError

Reach = Literal["process", "host", "network"]
"""Who can share a resource: threads of one process, processes of one machine, or any machine."""

MAX_RECORD_BYTES = 64 * 1024
"""The largest record a slot may hold, in bytes."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a listing."""

    name: str
    """The name, relative to the store's root."""
    size: int
    """The size in bytes."""
    modified: float
    """The time of the last write, in seconds since the epoch by the store's clock. Used for grace periods only."""


class SlotStore(Protocol):
    """Small records under names. `MemoryStore` is the reference implementation.

    Every method may raise `StoreUnreachable` if it is unknown what happened (timeout, throttling, lost connection);
    methods that write may raise `StoreNotWritable` and `StoreFull`. A missing name is never an error.
    """

    def get(self, name: str) -> bytes | None:
        """Return a whole record, or None if the name is not taken.

        The result reflects every write that returned before this call began.

        Args:
            name: The name of the record.

        Returns:
            At most `MAX_RECORD_BYTES` + 1 bytes. More than the limit means that it was not written as a record.
        """
        ...

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        """Return what `get` returns for each name, in the order given, in as few round trips as possible."""
        ...

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Write a record if its name is not taken.

        Atomic among all processes and machines: for each name at most one call ever returns True, and no reader sees a
        part of the bytes. The record is durable when the call returns.

        Args:
            name: The name of the record.
            data: At most `MAX_RECORD_BYTES`.

        Returns:
            True if this call wrote the record. False if the name was taken, possibly by an earlier attempt of the same
            caller whose answer was lost; read the record to find out.

        Raises:
            StoreError: The record is too large.
        """
        ...

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Write or replace a record. Readers see either the old or the new bytes, never a mixture.

        Args:
            name: The name of the record.
            data: At most `MAX_RECORD_BYTES`.
            durable: Whether the record must survive a power cut once the call has returned. False is for data that can
                be recomputed.

        Raises:
            StoreError: The record is too large.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove a name. Does nothing if it is not taken."""
        ...

    def list(self, prefix: str) -> Iterator[Listed]:
        """List all names below a folder, sorted by name.

        Names that are written or deleted during the listing may or may not be included.

        Args:
            prefix: The folder with a trailing `/`, or an empty string for the whole store.
        """
        ...


class PayloadStore(Protocol):
    """Large immutable files under names. They are written once, and streamed in both directions."""

    def create(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Return a context manager that yields a file to write to.

        Leaving the block publishes the whole file under its name, durably. If the block raises, nothing is published
        and the exception passes unchanged.

        Args:
            name: A new name. Names contain the attempt, so that every file has a name of its own.

        Raises:
            StoreError: The name is taken, or one of the errors of `SlotStore` occurred.
        """
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading. The returned file is seekable.

        Raises:
            FileNotFoundError: The name is not taken.
            StoreUnreachable: Whether the name is taken is unknown.
        """
        ...

    def local_path(self, name: str) -> str | None:
        """Return the path of the payload if it is a file on this machine, which can be memory-mapped, else None."""
        ...


class Store(SlotStore, PayloadStore, Protocol):
    """A complete store: both halves over one root. `open_store(url)` returns one."""

    @property
    def url(self) -> str:
        """The address that opens the same store again. Contains no secrets."""
        ...

    @property
    def reach(self) -> Reach:
        """Who can open the same store by its address: this process, this machine, or the network.

        It need not be exact: workers verify that they see the driver's store.
        """
        ...

    @property
    def trusted(self) -> bool:
        """Whether only this user, or users whom this one trusts, can write here. Pickles are read from trusted stores
        only."""
        ...


@runtime_checkable
class ExplainedStore(Protocol):
    """A store that explains why it is not trusted."""

    @property
    def open_to(self) -> str:
        """The reason why other users can change the data; empty if they cannot."""
        ...


@runtime_checkable
class AppendStore(Protocol):
    """A store that can append to files, for logs."""

    def append(self, name: str, data: bytes) -> None:
        """Append bytes to a file, creating it if needed. The file is read with `open`, not with `get`.

        The bytes of one call stay contiguous even if several processes append. They are visible when the call returns,
        but may be lost in a power cut shortly after it.

        Args:
            name: The name of the file.
            data: Any number of bytes.
        """
        ...


@runtime_checkable
class SweepStore(Protocol):
    """A store in which killed writers can leave temporary files behind."""

    def sweep(self, *, older_than: float) -> int:
        """Remove old temporary files. Files that have a name are never touched.

        Args:
            older_than: The minimum age in seconds, counted from the last write.

        Returns:
            The number of files removed.
        """
        ...


@runtime_checkable
class DiskStore(Protocol):
    """A store that knows its disk usage, which exceeds the sizes of its files: files and folders take whole blocks."""

    def disk_bytes(self, prefix: str) -> int:
        """Return the bytes that the folder `prefix` (or everything, if it is empty) takes on disk."""
        ...


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a service handled a test of conditional writes."""

    verdict: Literal["enforced", "ignored", "unsupported"]
    """`ignored`: it accepted a second writer. `unsupported`: it rejected the condition itself."""
    versioned: bool | None = None
    """Whether the bucket keeps old versions; None if the service does not say."""
    seen: float = 0.0
    """The time of the test, in seconds since the epoch."""

    @property
    def enforced(self) -> bool:
        return self.verdict == "enforced"


@runtime_checkable
class ProbedStore(Protocol):
    """A store whose `put_if_absent` depends on the service behind it, which is tested before use.

    If the service does not enforce conditions, `put_if_absent` reads and then writes. Two concurrent writers may then
    both receive True, so nothing that requires mutual exclusion may rely on it.
    """

    def conditions(self, *, afresh: bool = False) -> Conditions:
        """Return how the service handles conditional writes. Raises the errors of `put_if_absent`.

        Args:
            afresh: Whether to test again instead of using a verdict of the last day.
        """
        ...


@runtime_checkable
class RememberedStore(Protocol):
    """A store whose records may be cached by a lookup index (penstock.storage.stores.indexing)."""

    def note_closing(self, name: str) -> None:
        """Announce that a record is about to be replaced. Raises the errors of `put`.

        Reads that begin after this returns do not take the record from the cache.
        """
        ...


def check_name(name: str) -> str:
    """Return the name unchanged if it stays inside the store.

    Every store must call this. Refused are empty names and segments, segments that begin with a dot, NUL, backslashes
    and lone surrogates.

    Raises:
        StoreError: The name is refused.
    """
    # The fast path: this runs for every name of a lookup of 10 000.
    if not _USUAL.fullmatch(name) and (not name or _UNSAFE.search(name)):
        raise StoreError(
            f"refused the name {name[:200]!r}",
            because="it could leave the store",
            hint="only use names that Penstock has made",
        )
    return name


_USUAL = re.compile(r"[a-z0-9_~-][a-z0-9_.~-]*+(?:/[a-z0-9_~-][a-z0-9_.~-]*+)*+")

# Segments that begin with a dot are `..` and hidden files such as the local store's own. No file system stores lone
# surrogates.
_UNSAFE = re.compile(r"(?:^|/)(?:\.|/|\Z)|[\0\\\ud800-\udfff]")


def check_record(name: str, data: bytes) -> bytes:
    """Return the bytes of a record unchanged. Raises `StoreError` if there are more than `MAX_RECORD_BYTES`."""
    if len(data) > MAX_RECORD_BYTES:
        raise StoreError(
            f"a record of {len(data)} bytes is too large",
            where=name,
            because=f"the limit is {MAX_RECORD_BYTES} bytes",
        )
    return data
