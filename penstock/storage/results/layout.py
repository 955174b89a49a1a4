"""The description of a store, which says by which version of the layout it is written."""

from __future__ import annotations

from penstock.errors import DamagedResult, StoreError
from penstock.storage.records.encoding import check_format, encode
from penstock.storage.records.records import FORMAT_NAME, FORMAT_VERSION, StoreFormat
from penstock.storage.stores.base import SlotStore


class Layout:
    """The layout of one store, read once and written once by each process."""

    def __init__(self, store: SlotStore, url: str) -> None:
        """`url` is for messages."""
        self._store = store
        self._url = url
        self._read = False
        self._written = False

    def check(self) -> None:
        """Raise `StoreVersionError` if a newer version of Penstock made the store, `StoreError` if it is damaged."""
        if self._read:
            return
        data = self._store.get(FORMAT_NAME)
        if data is not None:
            try:
                check_format(data)
            except DamagedResult as error:
                raise StoreError(
                    "the store's own description is damaged",
                    where=f"{self._url} {FORMAT_NAME}",
                    because=error.because,
                    hint="delete this file; it will be written again",
                ) from error
        self._read = True

    def write(self) -> None:
        """Describe the store, before anything else is written. Raises as `check`."""
        self.check()
        if not self._written:
            self._store.put_if_absent(FORMAT_NAME, encode(StoreFormat(FORMAT_VERSION)))
            self._written = True
