"""`runner(flow)`: binding a flow to where it runs."""

from __future__ import annotations

from typing import Any, Protocol, Self, TypeVar


class _HasOptions(Protocol):
    def with_options(self, *, runner: Any) -> Any: ...


F = TypeVar("F", bound=_HasOptions)


class BindsFlows:
    """Mixin of runners: calling one with a flow gives the same flow, bound to the runner."""

    def __enter__(self) -> Self:
        """Runners with something to keep from one run to the next keep it in this block."""
        return self

    def __exit__(self, *_: object) -> None:
        """What was kept is let go."""

    def __call__(self, flow: F) -> F:
        bound: F = flow.with_options(runner=self)
        return bound
