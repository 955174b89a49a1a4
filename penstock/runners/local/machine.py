"""What the runners of this machine are told alike: how many calls at a time, and what the machine has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.errors import ConfigurationError
from penstock.runners.base import BindsFlows
from penstock.runners.resources import required
from penstock.worker.shipping.code_packing import Ship, check_ship


@dataclass(frozen=True)
class LocalRunner(BindsFlows):
    """Settings of a runner whose workers are on this machine. Raises `ConfigurationError` for what cannot be."""

    workers: int
    resources: Mapping[str, float | str] = field(default_factory=dict)
    """What this machine has besides, or instead of, its `cpu` and `memory`, for tasks that ask for it: numbers and
    sizes, such as `{"gpu": 1, "memory": "8GiB"}`."""
    ship: Ship = ()
    """As for clusters. Workers import here what the driver imports, so it is checked and nothing is sent."""
    max_workers: int | None = field(default=None, repr=False, compare=False)
    """Another word for `workers`."""

    def __post_init__(self) -> None:
        check_ship(self.ship)
        if self.max_workers is not None:
            object.__setattr__(self, "workers", self.max_workers)
        object.__setattr__(self, "resources", required(self.resources, 1))
        if self.workers < 1:
            raise ConfigurationError(f"workers={self.workers}", because="nothing could ever run", hint="1 or more")
