"""The conformance suite for runners, and its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.testing.runners.suite import RunnerTests

__all__ = ["RunnerTests"]


def __getattr__(name: str) -> Any:
    if name != "RunnerTests":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from penstock.testing.runners.suite import RunnerTests  # on use: workers import other modules of this package

    return RunnerTests
