"""What a Ray cluster has, and what a bundle needs of it, in our words and in Ray's."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from penstock.errors import RunnerError

CAPACITY_SECONDS = 5.0
"""The cluster is asked what it has at most this often: it may grow and shrink."""


class Capacity:
    """What the cluster has, asked again from time to time."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._asked = -math.inf
        self._known: dict[str, float] = {}
        self._fitting: set[tuple[tuple[str, float], ...]] = set()

    def now(self) -> Mapping[str, float]:
        """What all machines have together; 0 of what has gone."""
        if time.monotonic() - self._asked > CAPACITY_SECONDS:
            self._known = defaultdict(float, _canonical(self._ray.cluster_resources()))
            self._known["slots"] = float(int(self._known["cpu"]))
            self._fitting = set()
            self._asked = time.monotonic()
        return self._known

    def check_fits(self, name: str, needs: Mapping[str, float]) -> None:
        """Raise `RunnerError` if no machine alone has what Ray would wait for without end."""
        key = tuple(needs.items())
        if key in self._fitting:
            return
        wanted = {resource: amount for resource, amount in needs.items() if resource != "slots"}
        machines = [_canonical(node["Resources"]) for node in self._ray.nodes() if node["Alive"]]
        if not any(all(machine.get(r, 0.0) >= amount for r, amount in wanted.items()) for machine in machines):
            largest = {r: max((machine.get(r, 0.0) for machine in machines), default=0.0) for r in wanted}
            asked = ", ".join(f"{r} {amount:g} (the most is {largest[r]:g})" for r, amount in wanted.items())
            raise RunnerError(
                f"no worker can ever run {name}",
                because=f"no machine of the cluster has all of {asked}",
                hint="ask for less, or use a cluster with larger machines",
            )
        self._fitting.add(key)


def _canonical(resources: Mapping[str, float]) -> dict[str, float]:
    """Ray's resources by our names."""
    names = {"CPU": "cpu", "GPU": "gpu"}
    return {"cpu": 0.0, **{names.get(name, name): float(amount) for name, amount in resources.items()}}


def as_options(needs: Mapping[str, float]) -> dict[str, Any]:
    """What a bundle needs, as options of a remote function. Ray wants amounts above one to be whole."""
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
