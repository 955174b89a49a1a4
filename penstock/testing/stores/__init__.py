"""The conformance suite for stores, and stores with scripted faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.testing.stores.suite import StoreTests

__all__ = ["StoreTests"]


def __getattr__(name: str) -> Any:
    if name != "StoreTests":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from penstock.testing.stores.suite import StoreTests  # on use: workers import other modules of this package

    return StoreTests
