"""The resources of the workers of a Dask cluster, and where a bundle can run, in terms of Dask."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.runners.remote.machines import Machines, has


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a bundle may run, as Dask expects it."""

    resources: tuple[tuple[str, float], ...] = ()
    """Amounts by the names of Dask."""
    workers: tuple[str, ...] = ()
    """The addresses of workers; empty for all."""


ANYWHERE = Placement()


class Workers(Machines):
    """The workers, as the scheduler last reported them.

    A worker has the resources that it declares. Without a declaration, its memory is known, and its cores are those of
    all workers on its machine, because a call may use the cores of other workers.
    """

    one = "worker"

    def __init__(self, *, patience: float, this_machine: bool) -> None:
        super().__init__(patience=patience)
        self._cores = (os.cpu_count() or 1) if this_machine else 0
        self._declared: dict[str, dict[str, str]] = {}
        """For each worker the resources that it declares: the name in Penstock, and the name in Dask."""

    def update(self, workers: Mapping[str, Mapping[str, Any]], now: float) -> None:
        """Update the workers from the information of the scheduler."""
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
        """Choose where a bundle may run.

        Args:
            needs: The resources of the bundle.
            name: The call, for messages.

        Returns:
            None if no worker can run it now, but one could within the last `patience` seconds.

        Raises:
            RunnerError: No worker could.
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
        """Return whether a worker that exists now can run a bundle."""
        fitting = self.fitting({name.lower(): amount for name, amount in placement.resources})
        return bool(fitting) and (not placement.workers or not set(fitting).isdisjoint(placement.workers))
