"""The common settings of the runners on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from penstock.runners.base import BindsFlows
from penstock.runners.options import check_names, check_workers
from penstock.runners.resources import required
from penstock.worker.shipping.code_packing import Ship, check_ship


@dataclass(frozen=True)
class LocalRunner(BindsFlows):
    """The settings of a runner on this machine. Creating it raises `ConfigurationError` for invalid values."""

    workers: int
    resources: Mapping[str, float | str] = field(default_factory=dict)
    """Resources of this machine in addition to, or in place of, its `cpu` and `memory`: numbers and sizes, such as
    `{"gpu": 1, "memory": "8GiB"}`."""
    ship: Ship = ()
    """Packages to ship, as for clusters. Only checked: workers on this machine import what the driver imports."""
    max_workers: int | None = field(default=None, repr=False, compare=False)
    """Another name for `workers`."""

    def __new__(cls, *_: Any, **settings: Any) -> Self:
        check_names(cls.__name__, settings, (each.name for each in fields(cls) if each.init))
        return super().__new__(cls)

    def __post_init__(self) -> None:
        check_ship(self.ship)
        if self.max_workers is not None:
            object.__setattr__(self, "workers", self.max_workers)
        object.__setattr__(self, "resources", required(self.resources, 1))
        check_workers(self.workers)
