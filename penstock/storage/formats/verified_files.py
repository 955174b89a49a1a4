"""The files of results: read as a whole and verified, or opened for partial reads."""

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
"""Local files of at least this size are memory-mapped."""
_CHUNK = 16 << 20


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a result with its original size and checksum. Can be pickled if its store can."""

    store: Store
    name: str
    size: int
    """Bytes."""
    checksum: str
    """blake3, hex."""
    task: str

    def contents(self, *, own: bool = False) -> memoryview:
        """Read and verify the whole file. The result is read-only, or with `own` writable private memory.

        Raises `DamagedResult` if the bytes differ from what was written, and `StoreUnreachable`.
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
        """Verify the file like `contents`, with only a few parts of it in memory at a time."""
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
        """Open the file for partial reads. Only its size is verified. Raises the errors of `contents`."""
        file = self._opened()
        # Unbuffered, for random access.
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
        """Return the error for this damaged file."""
        return DamagedResult(
            f"a stored result of {self.task} is damaged",
            where=self.name,
            because=because,
            hint="run the flow again: it recomputes the result",
            gone=gone,
        )

    def __dask_tokenize__(self) -> tuple[str, str]:
        return self.name, self.checksum

    def _opened(self) -> BinaryIO:
        try:
            return self.store.open(self.name)
        except FileNotFoundError:
            raise self.damaged("its payload is missing", gone=True) from None
        except NoOrdinaryFile as error:
            raise self.damaged(f"its payload is not a regular file: {error.what}") from error
        except OSError as error:
            raise self._unreachable(error) from error

    def _all_of(self, file: BinaryIO) -> memoryview:
        """Return the whole file. The length differs from `size` only if the file has another size.

        Files in untrusted stores are copied instead of mapped, since mapped bytes could change after verification.
        """
        if self.size >= _MAPPED_BYTES and self.store.trusted:
            try:
                # The verified bytes are parsed without a copy. Maps the whole file, so that its size is verified, too.
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            except (io.UnsupportedOperation, ValueError):
                pass  # not a local file, or an empty one
        return memoryview(file.read(self.size + 1))

    def _of_another_size(self) -> DamagedResult:
        return self.damaged(f"its payload does not have the {self.size} bytes that were written")

    def _unreachable(self, error: OSError) -> StoreUnreachable:
        return StoreUnreachable("cannot read a payload", where=self.name, because=str(error))


def _own_contents(file: BinaryIO, size: int) -> memoryview:
    """Read the whole file into one buffer."""
    buffer = bytearray(size)
    view, at = memoryview(buffer), 0
    while at < size and (count := _read_into(file, view[at : at + _CHUNK])):
        at += count
    if at == size and not file.read(1):
        return view
    return memoryview(bytes(size + 1 if at == size else at))  # of another size, which is an error anyway


def _read_into(file: BinaryIO, view: memoryview) -> int:
    if isinstance(file, io.RawIOBase | io.BufferedIOBase):
        return file.readinto(view) or 0
    chunk = file.read(len(view))
    view[: len(chunk)] = chunk
    return len(chunk)
