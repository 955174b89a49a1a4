"""What the workers of a Dask cluster have, and which of them can run what."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.errors import RunnerError
from penstock.runners.prefetch import Prefetch


@dataclass(frozen=True, slots=True)
class Shape:
    """What one worker has."""

    host: str
    threads: int
    memory: float
    host_threads: int
    """Of all workers on its machine: a call may use the cores of its neighbours."""
    declared: tuple[tuple[str, float], ...]
    """Its Dask resources, as they are called there."""

    def declares(self, name: str) -> bool:
        """Whether it is one of its Dask resources."""
        return any(declared.lower() == name for declared, _ in self.declared)

    def amount(self, name: str) -> float:
        """How much it has of a resource by our name. What it declares counts; cores and memory are known anyway."""
        for declared, amount in self.declared:
            if declared.lower() == name:
                return amount
        return {"cpu": float(self.host_threads), "memory": self.memory}.get(name, 0.0)


@dataclass(frozen=True, slots=True)
class Placement:
    """How Dask is told where a bundle may run."""

    resources: tuple[tuple[str, float], ...] = ()
    """In Dask's words."""
    workers: tuple[str, ...] = ()
    """Addresses; empty for all."""


ANYWHERE = Placement()


class _Unknown(Mapping[str, float]):
    """The capacity of a cluster that has no worker yet: anything may come."""

    def __getitem__(self, name: str) -> float:
        return 1.0 if name == "slots" else math.inf

    def __iter__(self) -> Iterator[str]:
        return iter(("slots",))

    def __len__(self) -> int:
        return 1


class Workers:
    """The workers as they are now, and for `patience` seconds those that were there before: a worker that died is
    usually replaced, and asking for what it had is no error meanwhile.
    """

    def __init__(self, *, patience: float, this_machine: bool) -> None:
        self.patience = patience
        self._seen = False
        self._threads: dict[str, int] = {}
        self._cores = (os.cpu_count() or 1) if this_machine else 0
        self._shapes: dict[str, Shape] = {}
        self._before: dict[Shape, float] = {}
        self._most: dict[str, tuple[float, float]] = {}
        self._prefetch = Prefetch()
        self.capacity: Mapping[str, float] = _Unknown()

    @property
    def known(self) -> bool:
        """Whether there ever was a worker."""
        return self._seen

    @property
    def addresses(self) -> frozenset[str]:
        return frozenset(self._shapes)

    def threads(self, address: str) -> int:
        """Of the worker, which may be gone; 1 if it was never seen."""
        return self._threads.get(address, 1)

    def update(self, workers: Mapping[str, Mapping[str, Any]], now: float) -> None:
        """Take in what the scheduler says of its workers."""
        hosts: dict[str, int] = {}
        for facts in workers.values():
            hosts[facts["host"]] = hosts.get(facts["host"], 0) + facts["nthreads"]
        self._shapes = {
            address: Shape(
                host=facts["host"],
                threads=facts["nthreads"],
                memory=float(facts["memory_limit"] or math.inf),
                host_threads=max(hosts[facts["host"]], self._cores),
                declared=tuple(sorted((facts.get("resources") or {}).items())),
            )
            for address, facts in workers.items()
        }
        self._seen = self._seen or bool(self._shapes)
        self._threads.update((address, shape.threads) for address, shape in self._shapes.items())
        before = self._before | dict.fromkeys(self._shapes.values(), now)
        self._before = {shape: seen for shape, seen in before.items() if now - seen <= self.patience}
        names = {"cpu", "memory", *(name.lower() for shape in self._shapes.values() for name, _ in shape.declared)}
        for name in names | self._most.keys():
            amount = self._total(name)
            most, seen = self._most.get(name, (0.0, now))
            if amount >= most or now - seen > self.patience:
                self._most[name] = (amount, now)
        self._tell()

    def learn(self, calls: int, seconds: float) -> None:
        """A bundle of so many calls took so long."""
        if self._prefetch.learn(calls, seconds):
            self._tell()

    def place(self, needs: Mapping[str, float]) -> Placement | None:
        """Where a bundle that needs so much may run; None if nowhere now, although there was a worker that had it all
        not long ago. Raises `RunnerError` if there was none.
        """
        asked = {name: amount for name, amount in needs.items() if name != "slots" and amount > 0}
        if not asked:
            return ANYWHERE
        fitting = {a: shape for a, shape in self._shapes.items() if _fits(shape, asked)}
        if not fitting:
            if any(_fits(shape, asked) for shape in self._before):
                return None
            raise RunnerError(
                "no worker has what the call asks for",
                because=", ".join(f"{name} {amount:g}" for name, amount in asked.items()) + " on one worker",
                hint="ask for less, or add a worker that has it",
            )
        declared = {name for shape in fitting.values() for name, _ in shape.declared if name.lower() in asked}
        resources = tuple((name, asked[name.lower()]) for name in sorted(declared))
        by_dask = {name.lower() for name in declared}
        rest = {name: amount for name, amount in asked.items() if name not in by_dask}
        everywhere = all(_fits(shape, rest) for shape in self._shapes.values())
        return Placement(resources, () if everywhere else tuple(sorted(fitting)))

    def runs(self, placement: Placement) -> bool:
        """Whether a worker that is there now can run it."""
        asked = {name.lower(): amount for name, amount in placement.resources}
        return any(
            _fits(shape, asked) and (not placement.workers or address in placement.workers)
            for address, shape in self._shapes.items()
        )

    def _total(self, name: str) -> float:
        if name != "cpu":
            return sum(shape.amount(name) for shape in self._shapes.values())
        undeclared = {s.host: s.host_threads for s in self._shapes.values() if not s.declares("cpu")}
        declared = sum(s.amount("cpu") for s in self._shapes.values() if s.declares("cpu"))
        return declared + sum(undeclared.values())

    def _tell(self) -> None:
        if self.known:
            threads = sum(shape.threads for shape in self._shapes.values())
            workers = float(max(1, threads))
            most = {name: amount for name, (amount, _) in self._most.items()}
            self.capacity = {"slots": self._prefetch.slots(workers), "workers": workers, **most}


def _fits(shape: Shape, asked: Mapping[str, float]) -> bool:
    return all(shape.amount(name) >= amount for name, amount in asked.items())
