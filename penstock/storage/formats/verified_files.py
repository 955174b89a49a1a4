"""The files of results as they were written: read whole and verified, or opened for whoever reads parts of them."""

from __future__ import annotations

import io
import mmap
import os
from dataclasses import dataclass
from typing import BinaryIO

from penstock.checksums import new_hash
from penstock.errors import DamagedResult, StoreUnreachable
from penstock.storage.stores.base import Store
from penstock.storage.stores.local_errors import NoOrdinaryFile

_MAPPED_BYTES = 1 << 20
"""From this size on, files of this machine are memory-mapped."""
_CHUNK = 16 << 20


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a result, and what it was when it was written. Pickles, if its store does."""

    store: Store
    name: str
    size: int
    """Bytes."""
    checksum: str
    """blake3, hex."""
    task: str

    def contents(self, *, own: bool = False) -> memoryview:
        """All of it, read-only; with `own` in memory that is the caller's to write to.

        Raises `DamagedResult` if it is not what was written, `StoreUnreachable`.
        """
        with self._opened() as file:
            try:
                data = _own_contents(file, self.size) if own else self._all_of(file)
            except OSError as error:
                raise self._unreachable(error) from error
        if len(data) != self.size:
            raise self._of_another_size()
        hasher = new_hash(nbytes=len(data))
        hasher.update(data)
        if hasher.hexdigest() != self.checksum:
            raise self.damaged("its payload has another checksum")
        return data

    def verify(self) -> None:
        """As `contents`, without ever holding more than a few parts of it in memory."""
        hasher, size = new_hash(nbytes=self.size), 0
        with self._opened() as file:
            try:
                while chunk := file.read(_CHUNK):
                    hasher.update(chunk)
                    size += len(chunk)
            except OSError as error:
                raise self._unreachable(error) from error
        if size != self.size:
            raise self._of_another_size()
        if hasher.hexdigest() != self.checksum:
            raise self.damaged("its payload has another checksum")

    def open(self) -> BinaryIO:
        """To read parts of it, which are not verified but for its size. Raises as `contents`."""
        file = self._opened()
        # What is read here and there must not be read a buffer at a time.
        raw = file.detach() if isinstance(file, io.BufferedReader) else file
        try:
            if raw.seek(0, os.SEEK_END) != self.size:
                raise self._of_another_size()
            raw.seek(0)
        except BaseException:
            raw.close()
            raise
        return raw  # type: ignore[return-value]

    def damaged(self, because: str, *, gone: bool = False) -> DamagedResult:
        """The error that says so."""
        return DamagedResult(
            f"a stored result of {self.task} is damaged",
            where=self.name,
            because=because,
            hint="it is computed again where its task can run",
            gone=gone,
        )

    def __dask_tokenize__(self) -> tuple[str, str]:
        return self.name, self.checksum

    def _opened(self) -> BinaryIO:
        try:
            return self.store.open(self.name)
        except FileNotFoundError:
            raise self.damaged("its payload is gone", gone=True) from None
        except NoOrdinaryFile as error:
            raise self.damaged(f"its payload is none: {error.what}") from error
        except OSError as error:
            raise self._unreachable(error) from error

    def _all_of(self, file: BinaryIO) -> memoryview:
        """The whole file; a byte more or less than its size only where it has another size.

        What others can write to is not mapped but copied: bytes of a map may change once they have been verified.
        """
        if self.size >= _MAPPED_BYTES and self.store.trusted:
            try:
                # What was verified is what is parsed, without a copy. Maps all that is there, so that the size tells.
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            except (io.UnsupportedOperation, ValueError):
                pass  # not a file of this machine, or an empty one
        return memoryview(file.read(self.size + 1))

    def _of_another_size(self) -> DamagedResult:
        return self.damaged(f"its payload is not the {self.size} bytes that were written")

    def _unreachable(self, error: OSError) -> StoreUnreachable:
        return StoreUnreachable("reading a payload failed", where=self.name, because=str(error))


def _own_contents(file: BinaryIO, size: int) -> memoryview:
    """All of the file, filled in place: what is there is there once."""
    buffer = bytearray(size)
    view, at = memoryview(buffer), 0
    while at < size and (count := _read_into(file, view[at : at + _CHUNK])):
        at += count
    if at == size and not file.read(1):
        return view
    return memoryview(bytes(size + 1 if at == size else at))  # of another size, which is all that counts


def _read_into(file: BinaryIO, view: memoryview) -> int:
    if isinstance(file, io.RawIOBase | io.BufferedIOBase):
        return file.readinto(view) or 0
    chunk = file.read(len(view))
    view[: len(chunk)] = chunk
    return len(chunk)
