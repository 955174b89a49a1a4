"""The salt of a store: with it digests of secrets are keyed, so that a record alone does not tell which secret it was.

Without it anybody could digest all likely passwords and compare. It lies in the store, for all who share its results;
who reads that too can try again, one store at a time. Made when the first secret is met, and never changed: results of
tasks that take secrets would be found no more.
"""

from __future__ import annotations

import os
import re

from penstock.errors import StoreError, StoreNotWritable
from penstock.storage.stores.base import SlotStore

SALT_NAME = "salt.txt"
_BYTES = 32


def salt_of(store: SlotStore, *, make: bool) -> bytes:
    """The store's salt. Where there is none it is made, or with `make` False, or where nothing can be written, one that
    nobody keeps: no result can be there that was keyed with another. Raises `StoreError`."""
    found = store.get(SALT_NAME)
    fresh = os.urandom(_BYTES)
    if found is None and make:
        try:
            store.put_if_absent(SALT_NAME, fresh.hex().encode())
        except StoreNotWritable:
            return fresh
        found = store.get(SALT_NAME)
    return fresh if found is None else _decoded(found)


def copy_salt(source: SlotStore, target: SlotStore) -> None:
    """So that copies of results which took secrets are found in the other store, if that has no salt yet."""
    found = source.get(SALT_NAME)
    if found is not None:
        _decoded(found)
        target.put_if_absent(SALT_NAME, found)


def _decoded(data: bytes) -> bytes:
    if re.fullmatch(rb"[0-9a-f]{64}", data) is None:
        raise StoreError(
            "the salt of the store is damaged",
            where=SALT_NAME,
            because="it is not 64 hexadecimal digits",
            hint="delete this one file: it is made again, and results of tasks that take secrets are computed again",
        )
    return bytes.fromhex(data.decode())
