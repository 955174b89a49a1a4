"""What a Ray cluster has, and what a bundle needs of it, in our words and in Ray's."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from penstock.errors import RunnerError
from penstock.runners.prefetch import Prefetch


class Capacity:
    """What the cluster has, as it was when somebody looked last: it may grow and shrink.

    A machine that is gone is usually replaced: for `patience` seconds asking for what it had is no error.
    """

    def __init__(self, nodes: Iterable[Mapping[str, Any]], *, patience: float) -> None:
        """`nodes` is what `ray.nodes()` says."""
        self._patience = patience
        self._prefetch = Prefetch()
        self._seen: dict[str, tuple[float, Mapping[str, float]]] = {}
        self.update(nodes)

    def update(self, nodes: Iterable[Mapping[str, Any]]) -> None:
        """Note what the cluster has now. From any thread."""
        now = time.monotonic()
        there = {node["NodeID"]: (now, _canonical(node["Resources"])) for node in nodes if node["Alive"]}
        lately = {id: seen for id, seen in self._seen.items() if now - seen[0] <= self._patience}
        self._seen = lately | there
        self._machines = [machine for _, machine in self._seen.values()]
        total = _sum(machine for _, machine in there.values())
        most = {name: max((m.get(name, 0.0) for m in self._machines), default=0.0) for name in _sum(self._machines)}
        total = {name: max(total.get(name, 0.0), amount) for name, amount in most.items()}
        total["workers"] = max(1.0, float(int(_sum(machine for _, machine in there.values()).get("cpu", 0.0))))
        total["slots"] = self._prefetch.slots(total["workers"])
        self._total = total

    def learn(self, calls: int, seconds: float) -> None:
        """A bundle of so many calls took so long. From any thread."""
        if self._prefetch.learn(calls, seconds):
            total = self._total
            total["slots"] = self._prefetch.slots(total["workers"])

    def now(self) -> Mapping[str, float]:
        """What all machines have together, and of what has gone lately as much as one machine had."""
        return self._total

    def check_fits(self, name: str, needs: Mapping[str, float]) -> None:
        """Raise `RunnerError` if no machine alone has, or had lately, what Ray would wait for without end."""
        wanted = {"cpu": 1.0} | {resource: amount for resource, amount in needs.items() if resource != "slots"}
        machines = self._machines
        if any(all(machine.get(r, 0.0) >= amount for r, amount in wanted.items()) for machine in machines):
            return
        largest = {r: max((machine.get(r, 0.0) for machine in machines), default=0.0) for r in wanted}
        asked = ", ".join(f"{r} {amount:g} (the most is {largest[r]:g})" for r, amount in wanted.items())
        raise RunnerError(
            f"no worker can ever run {name}",
            because=f"no machine of the cluster has all of {asked}",
            hint="ask for less, use a cluster with larger machines, or raise worker_timeout= if they come back later",
        )


def _sum(machines: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for machine in machines:
        for name, amount in machine.items():
            total[name] += amount
    return dict(total)


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
