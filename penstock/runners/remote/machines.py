"""The resources of the machines (or workers) of a cluster: of each, to find where a call can run, and in total."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from penstock.errors import RunnerError
from penstock.runners.prefetch import Prefetch

Amounts = Mapping[str, float]
"""Amounts by the names of Penstock, in canonical units."""


class _Unknown(Amounts):
    """The capacity of a cluster without machines so far: any machine may appear."""

    def __getitem__(self, name: str) -> float:
        return 1.0 if name == "slots" else math.inf

    def __iter__(self) -> Iterator[str]:
        return iter(("slots",))

    def __len__(self) -> int:
        return 1


class Machines:
    """The machines that exist now, and those that existed within the last `patience` seconds.

    A machine that disappears is usually replaced, so until then it is no error to need its resources.
    """

    one = "machine"
    """The word for one of them in messages."""

    def __init__(self, *, patience: float) -> None:
        self.patience = patience
        self.there: Mapping[str, Amounts] = {}
        """The resources of each machine that exists now."""
        self.capacity: Amounts = _Unknown()
        """See `Engine.capacity`: the largest total within the last `patience` seconds."""
        self._lately: dict[str, tuple[float, Amounts]] = {}
        self._most: dict[str, tuple[float, float]] = {}
        self._prefetch = Prefetch()
        self._workers = 1.0

    @property
    def known(self) -> bool:
        """Whether there has been a machine."""
        return bool(self._most)

    def see(self, there: Mapping[str, Amounts], *, workers: float, now: float, cpu: float | None = None) -> None:
        """Update the machines.

        Args:
            there: The resources of each machine that exists now.
            workers: The number of bundles that run at a time.
            now: The time, by the monotonic clock.
            cpu: The total number of processors, if it is not the sum over the machines.
        """
        self.there = there
        self._workers = max(1.0, workers)
        self._lately.update((name, (now, machine)) for name, machine in there.items())
        self._lately = {name: seen for name, seen in self._lately.items() if now - seen[0] <= self.patience}
        if there or self.known:
            together = {name: sum(machine.get(name, 0.0) for machine in there.values()) for name in self._names()}
            if cpu is not None:
                together["cpu"] = cpu
            for name, amount in together.items():
                most, seen = self._most.get(name, (0.0, now))
                if amount >= most or now - seen > self.patience:
                    self._most[name] = (amount, now)
            self._tell()

    def learn(self, calls: int, seconds: float) -> None:
        """Note how long a bundle of calls took. May be called from any thread."""
        if self._prefetch.learn(calls, seconds) and self.known:
            self._tell()

    def fitting(self, asked: Amounts) -> list[str]:
        """Return the machines that have all these resources now."""
        return [name for name, machine in self.there.items() if has(machine, asked)]

    def check_fits(self, name: str, needs: Amounts) -> None:
        """Check that one machine has, or had lately, all resources that a call needs.

        Args:
            name: The call, for messages.
            needs: The resources.

        Raises:
            RunnerError: None has them, so the cluster would wait for ever.
        """
        asked = asked_of(needs)
        if not asked or not self.known:
            return
        lately = [machine for _, machine in self._lately.values()]
        if any(has(machine, asked) for machine in lately):
            return
        most = {resource: max((m.get(resource, 0.0) for m in lately), default=0.0) for resource in asked}
        told = ", ".join(
            f"{resource} {amount:g} (the most is {most[resource]:g})" for resource, amount in asked.items()
        )
        raise RunnerError(
            f"no worker can ever run {name}",
            because=f"no {self.one} of the cluster has all of {told}",
            hint=f"ask for less, add a larger {self.one}, or raise worker_timeout= if they come back later",
        )

    def _names(self) -> set[str]:
        return self._most.keys() | {name for machine in self.there.values() for name in machine}

    def _tell(self) -> None:
        most = {name: amount for name, (amount, _) in self._most.items()}
        self.capacity = {"slots": self._prefetch.places(self._workers), "workers": self._workers, **most}


def asked_of(needs: Amounts) -> Amounts:
    """Return the resources that a bundle needs in addition to its place."""
    return {name: amount for name, amount in needs.items() if name != "slots" and amount > 0}


def has(machine: Amounts, asked: Amounts) -> bool:
    """Return whether a machine has all these resources."""
    return all(machine.get(name, 0.0) >= amount for name, amount in asked.items())
