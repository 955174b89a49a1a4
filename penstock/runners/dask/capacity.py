"""What the workers of a Dask cluster have, and which of them can run what, in Dask's words."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.runners.remote.machines import Machines, has


@dataclass(frozen=True, slots=True)
class Placement:
    """How Dask is told where a bundle may run."""

    resources: tuple[tuple[str, float], ...] = ()
    """In Dask's words."""
    workers: tuple[str, ...] = ()
    """Addresses; empty for all."""


ANYWHERE = Placement()


class Workers(Machines):
    """The workers as the scheduler last told of them.

    What a worker declares counts. Its memory is known anyway, and so are cores: those of all workers on its machine,
    since a call may use its neighbours'.
    """

    one = "worker"

    def __init__(self, *, patience: float, this_machine: bool) -> None:
        super().__init__(patience=patience)
        self._cores = (os.cpu_count() or 1) if this_machine else 0
        self._declared: dict[str, dict[str, str]] = {}
        """Names of the resources that a worker declares: ours, and as they are called there."""

    def update(self, workers: Mapping[str, Mapping[str, Any]], now: float) -> None:
        """Take in what the scheduler says of its workers."""
        threads: dict[str, int] = {}
        for facts in workers.values():
            threads[facts["host"]] = threads.get(facts["host"], 0) + facts["nthreads"]
        cores = {host: float(max(of_all, self._cores)) for host, of_all in threads.items()}
        declared = {address: facts.get("resources") or {} for address, facts in workers.items()}
        there = {
            address: {
                "cpu": cores[facts["host"]],
                "memory": float(facts["memory_limit"] or math.inf),
                **{name.lower(): amount for name, amount in declared[address].items()},
            }
            for address, facts in workers.items()
        }
        self._declared = {address: {name.lower(): name for name in names} for address, names in declared.items()}
        counted = [address for address, names in self._declared.items() if "cpu" in names]
        others = {facts["host"] for address, facts in workers.items() if address not in counted}
        cpu = sum(there[address]["cpu"] for address in counted) + sum(cores[host] for host in others)
        self.see(there, workers=sum(threads.values()), now=now, cpu=cpu)

    def place(self, needs: Mapping[str, float], name: str = "the call") -> Placement | None:
        """Where a bundle that needs so much may run; None if nowhere now, although there was a worker that had it all
        not long ago. Raises `RunnerError` if there was none.
        """
        asked = {resource: amount for resource, amount in needs.items() if resource != "slots" and amount > 0}
        if not asked:
            return ANYWHERE
        fitting = self.fitting(asked)
        if not fitting:
            self.check_fits(name, asked)
            return None
        declared = {asks for address in fitting for asks in self._declared[address].items() if asks[0] in asked}
        resources = tuple(sorted((there, asked[ours]) for ours, there in declared))
        by_dask = {ours for ours, _ in declared}
        rest = {resource: amount for resource, amount in asked.items() if resource not in by_dask}
        everywhere = all(has(worker, rest) for worker in self.there.values())
        return Placement(resources, () if everywhere else tuple(sorted(fitting)))

    def runs(self, placement: Placement) -> bool:
        """Whether a worker that is there now can run it."""
        fitting = self.fitting({name.lower(): amount for name, amount in placement.resources})
        return bool(fitting) and (not placement.workers or not set(fitting).isdisjoint(placement.workers))
