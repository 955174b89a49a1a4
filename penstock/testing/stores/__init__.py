"""What stores are tested with: the suite, and stores that fail as they are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.testing.stores.suite import StoreTests

__all__ = ["StoreTests"]


def __getattr__(name: str) -> Any:
    if name != "StoreTests":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from penstock.testing.stores.suite import StoreTests  # on use: what else is here is imported by workers

    return StoreTests
