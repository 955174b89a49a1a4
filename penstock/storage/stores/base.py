"""What a store of small records and large payloads must do: the one interface file of storage.

Two halves with different needs meet here:

* A **SlotStore** keeps small records (at most `MAX_RECORD_BYTES`). Everything Penstock promises rests on one of its
  calls, `put_if_absent`; see docs/protocol.md. There is no default for it: a racy one would break the promise silently.
* A **PayloadStore** keeps the bytes of results under names that are written once and never changed.

What only some stores can do is a Protocol of its own: **AppendStore** (logs), **SweepStore** (leftovers of killed
writers), **DiskStore** (bytes on a disk), **ProbedStore** (services that may not do what they say),
**RememberedStore** (records that others remember).

Names are relative, `/`-separated and made by Penstock (`results/…`), never by users. A store must treat any
name alike and refuses what `check_name` refuses. A name is never also the folder of another name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol, runtime_checkable

from penstock.errors import StoreError

Reach = Literal["process", "host", "network"]
"""Who can share something: threads of one process, processes of one machine, or any machine."""

MAX_RECORD_BYTES = 64 * 1024
"""The largest record a slot may hold, in bytes."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a listing."""

    name: str
    """The name, relative to the store's root."""
    size: int
    """Bytes."""
    modified: float
    """Seconds since the epoch, by the store's clock. For grace periods only, never for correctness."""


class SlotStore(Protocol):
    """Small records under names; the memory implementation is the specification.

    Errors: `StoreUnreachable` when the outcome is not known (time-out, throttled, connection lost),
    `StoreNotWritable`, `StoreFull`. A name that is not there is never an error of `get` or `delete`.
    """

    def get(self, name: str) -> bytes | None:
        """The whole record as it is now, or None if there is none. Sees every write that returned before it began.

        At most `MAX_RECORD_BYTES` + 1 bytes are read: an answer longer than the limit was not written as a record.
        """
        ...

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        """As `get` for each name, in the order given, in as few round trips as the store can."""
        ...

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Write `data` if there is nothing under `name`; True if this call's bytes are there now and were not before.

        Atomic among any number of processes and machines: for each name at most one call ever returns True, and no
        reader sees a part of the bytes. Durable when it returns. False means that the name was taken, which
        may be by an earlier try of the same caller: look at the record to know. More than `MAX_RECORD_BYTES` is a
        `StoreError`, here and in `put`.
        """
        ...

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Write or replace. Atomic for readers (old bytes or new bytes, whole). Durable when it returns, unless the
        caller says that a power cut may take it: for what can be computed again.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove; nothing happens if it is not there."""
        ...

    def list(self, prefix: str) -> Iterator[Listed]:
        """Everything below the folder `prefix` (which ends in `/`, or is empty for all), in order of names.

        What is written or deleted while the listing goes on may be in it or not.
        """
        ...


class PayloadStore(Protocol):
    """Large immutable files under names, written once, streamed both ways."""

    def create(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file to write to. Leaving the block makes the file visible under `name`, whole and durable; leaving it by
        an exception leaves nothing. A name is written once (names carry their attempt): a taken name is a `StoreError`.
        Errors of the store come as in `SlotStore`; exceptions of the block pass as they are."""
        ...

    def open(self, name: str) -> BinaryIO:
        """A seekable file to read from. Raises `FileNotFoundError` if there is none, `StoreUnreachable` if unknown."""
        ...

    def local_path(self, name: str) -> str | None:
        """The file's path where the payload is a file of this machine (so it may be memory-mapped), else None."""
        ...


class Store(SlotStore, PayloadStore, Protocol):
    """Both halves over one root, as `open_store(url)` returns it."""

    @property
    def url(self) -> str:
        """The address that opens the same store again, without secrets in it."""
        ...

    @property
    def reach(self) -> Reach:
        """Who gets the same store by its address. Workers that look at another store find out by themselves."""
        ...

    @property
    def trusted(self) -> bool:
        """True if only this process, this user or whom this user let in can write here, so that pickles may be read."""
        ...


@runtime_checkable
class ExplainedStore(Protocol):
    """A store that can say why it is not trusted."""

    @property
    def open_to(self) -> str:
        """Why others can change what is read there; empty if they cannot."""
        ...


@runtime_checkable
class AppendStore(Protocol):
    """A store that also keeps logs: files that grow at their end."""

    def append(self, name: str, data: bytes) -> None:
        """Add `data` at the end of the file `name`, which begins empty. Read it with `open`, not with `get`.

        The bytes of one call stay together, whoever else appends. Visible when it returns; what was appended just
        before a power cut may be missing.
        """
        ...


@runtime_checkable
class SweepStore(Protocol):
    """A store in which killed writers leave files that no name leads to."""

    def sweep(self, *, older_than: float) -> int:
        """Remove leftovers last written more than `older_than` seconds ago; returns how many. Never touches a name."""
        ...


@runtime_checkable
class DiskStore(Protocol):
    """A store that knows what it takes on a disk: small files take whole blocks, and so do folders."""

    def disk_bytes(self, prefix: str) -> int:
        """Bytes on disk of everything below the folder `prefix` (empty for all), folders included."""
        ...


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a service did when it was told to write only where nothing is."""

    verdict: Literal["enforced", "ignored", "unsupported"]
    """`ignored`: it said yes to a second writer. `unsupported`: it refused the condition itself."""
    versioned: bool | None = None
    """Whether the bucket keeps old versions; None where the service does not tell us."""
    seen: float = 0.0
    """When it was tried, in seconds since the epoch."""

    @property
    def enforced(self) -> bool:
        return self.verdict == "enforced"


@runtime_checkable
class ProbedStore(Protocol):
    """A store whose `put_if_absent` is as good as the service behind it, which is tried before it is trusted.

    Where conditions are not enforced, `put_if_absent` looks and then writes. Two writers at the same time may both be
    told True then, so nothing that has to exclude may rest on it.
    """

    def conditions(self, *, afresh: bool = False) -> Conditions:
        """What the service does, from a verdict of the last day if there is one and `afresh` does not forbid it.

        Raises as `put_if_absent`.
        """
        ...


@runtime_checkable
class RememberedStore(Protocol):
    """A store of which a look-up index may remember records (penstock.storage.stores.indexing)."""

    def note_closing(self, name: str) -> None:
        """To be called before the record `name` is replaced: from when it returns, nobody who begins to read takes that
        record from memory. Raises as `put`."""
        ...


def check_name(name: str) -> str:
    """The name itself if it stays inside the store; raises `StoreError` otherwise."""
    # This runs for every name of a look-up of 10 000, and nearly every one is a usual one.
    if not _USUAL.fullmatch(name) and (not name or _UNSAFE.search(name)):
        raise StoreError(
            f"refused the name {name[:200]!r}",
            because="it could leave the store",
            hint="names are made by Penstock",
        )
    return name


_USUAL = re.compile(r"[a-z0-9_~-][a-z0-9_.~-]*+(?:/[a-z0-9_~-][a-z0-9_.~-]*+)*+")

# A segment that is empty or begins with a dot (`..`, and hidden files such as the local store's own), NUL, backslash,
# and lone surrogates, which no file system stores.
_UNSAFE = re.compile(r"(?:^|/)(?:\.|/|\Z)|[\0\\\ud800-\udfff]")


def check_record(name: str, data: bytes) -> bytes:
    """The bytes themselves if a slot may hold them; raises `StoreError` otherwise."""
    if len(data) > MAX_RECORD_BYTES:
        raise StoreError(
            f"a record of {len(data)} bytes is too large",
            where=name,
            because=f"{MAX_RECORD_BYTES} is the limit",
        )
    return data
