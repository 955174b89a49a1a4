"""blake3 hashes that use several cores for large inputs, except in forked processes."""

from __future__ import annotations

import os

from blake3 import blake3

PARALLEL_BYTES = 1024 * 1024
"""One core hashes less than this faster than several."""

# blake3's thread pool does not survive a fork: a child that used it would hang.
_forked = False


def _note_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def new_hash(*, nbytes: int) -> blake3:
    """Return a new hash that is suited to about `nbytes` bytes."""
    return blake3(max_threads=blake3.AUTO if nbytes >= PARALLEL_BYTES and not _forked else 1)
