"""What runners are tested with: the suite, its tasks and what watches over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.testing.runners.suite import RunnerTests

__all__ = ["RunnerTests"]


def __getattr__(name: str) -> Any:
    if name != "RunnerTests":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from penstock.testing.runners.suite import RunnerTests  # on use: what else is here is imported by workers

    return RunnerTests
