"""A value that only pickle keeps."""

from __future__ import annotations


class Opaque(set):  # type: ignore[type-arg]
    """A set of a kind of its own: an object like any other."""
