"""The salt of a store, which keys the digests of secrets, so that a record does not reveal a secret.

Without it, anyone could digest likely passwords and compare. It is in the store, for all who share its results; an
attacker who can also read the salt can still guess, but only for one store at a time. It is created with the first
secret and never changed, since results of tasks with secrets would no longer be found.
"""

from __future__ import annotations

import os
import re

from penstock.errors import StoreError, StoreNotWritable
from penstock.storage.stores.base import SlotStore

SALT_NAME = "salt.txt"
_BYTES = 32


def salt_of(store: SlotStore, *, make: bool) -> bytes:
    """Return the store's salt, creating it if needed.

    If `make` is False or the store is read-only, a missing salt is replaced by a temporary one: no stored result can
    depend on another. Raises `StoreError`.
    """
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
    """Copy the salt to a store without one, so that copies of results of tasks with secrets are found there."""
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
            hint="delete this file: a new one is created, and results of tasks with secrets are recomputed",
        )
    return bytes.fromhex(data.decode())
