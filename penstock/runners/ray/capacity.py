"""The resources of a Ray cluster and of bundles, by the names of Penstock and of Ray."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from penstock.runners.remote.machines import Amounts, Machines


class Nodes(Machines):
    """The machines of the cluster, as Ray last reported them. Safe to use from several threads."""

    def __init__(self, nodes: Iterable[Mapping[str, Any]], *, patience: float) -> None:
        """`nodes` is what `ray.nodes()` returns."""
        super().__init__(patience=patience)
        self.update(nodes)

    def update(self, nodes: Iterable[Mapping[str, Any]]) -> None:
        """Update the machines."""
        there = {node["NodeID"]: _canonical(node["Resources"]) for node in nodes if node["Alive"]}
        cpus = sum(machine["cpu"] for machine in there.values())
        self.see(there, workers=float(int(cpus)), now=time.monotonic())

    def check_fits(self, name: str, needs: Amounts) -> None:
        """See `Machines.check_fits`. By default a call needs one processor."""
        super().check_fits(name, {"cpu": 1.0, **needs})


def _canonical(resources: Mapping[str, float]) -> dict[str, float]:
    """Return the resources of Ray by the names of Penstock."""
    names = {"CPU": "cpu", "GPU": "gpu"}
    return {"cpu": 0.0, **{names.get(name, name): float(amount) for name, amount in resources.items()}}


def as_options(needs: Mapping[str, float]) -> dict[str, Any]:
    """Return the resources of a bundle as options of a remote function. Ray requires whole amounts above one."""
    whole = {name: math.ceil(amount) if amount > 1 else amount for name, amount in needs.items()}
    options: dict[str, Any] = {"num_cpus": whole.pop("cpu", 1)}
    if "gpu" in whole:
        options["num_gpus"] = whole.pop("gpu")
    if "memory" in whole:
        options["memory"] = int(whole.pop("memory"))
    custom = {name: amount for name, amount in whole.items() if name != "slots" and amount > 0}
    if custom:
        options["resources"] = custom
    return options
