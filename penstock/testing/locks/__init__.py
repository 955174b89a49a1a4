"""The conformance suite for lock managers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.testing.locks.suite import LockManagerTests

__all__ = ["LockManagerTests"]


def __getattr__(name: str) -> Any:
    if name != "LockManagerTests":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from penstock.testing.locks.suite import LockManagerTests  # on use: workers import other modules of this package

    return LockManagerTests
