"""blake3 hashes that use several cores for large inputs, except in forks of processes that have done so."""

from __future__ import annotations

import os

from blake3 import blake3

PARALLEL_BYTES = 1024 * 1024
"""One core hashes less than this faster than several."""

# blake3's thread pool does not survive a fork: a child that used it would hang.
_pool_started = False
_pool_lost = False


def _note_fork() -> None:
    global _pool_lost
    _pool_lost = _pool_started


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def new_hash(*, nbytes: int) -> blake3:
    """Return a new hash that is suited to about `nbytes` bytes."""
    global _pool_started
    if nbytes < PARALLEL_BYTES or _pool_lost:
        return blake3(max_threads=1)
    _pool_started = True
    return blake3(max_threads=blake3.AUTO)
