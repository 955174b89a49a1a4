"""A value that only pickle can store."""

from __future__ import annotations


class Opaque(set):  # type: ignore[type-arg]
    """A subclass of `set`, which no other format accepts."""
