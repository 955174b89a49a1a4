"""The epoch locks in a simulated cluster (see `worlds`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from penstock.locks.epochs import Epoch, Epochs, _encoded, _name
from penstock.locks.liveness import SessionObject, SessionRegistry
from penstock.locks.slots import SlotLockManager
from penstock.process.identity import ProcessIdentity
from penstock.storage.stores.base import Listed
from penstock.storage.stores.memory import MemoryStore
from tests.amounts import amount
from tests.locks.worlds import Machine, Violation, World, seeds, take_turns

pytestmark = pytest.mark.untraced


class StoreMachine(Machine):
    """A machine whose locks are in the world's store."""

    world: EpochWorld

    # -- access to the store

    def get(self, name: str) -> bytes | None:
        return self.step("get", lambda: self.world.store.get(name))

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        return [self.get(name) for name in names]

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return self.step("put_if_absent", lambda: self.world.store.put_if_absent(name, data))

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        self.step("put", lambda: self.world.store.put(name, data))

    def delete(self, name: str) -> None:
        self.step("delete", lambda: self.world.store.delete(name))

    def list(self, prefix: str) -> Iterator[Listed]:
        entries = self.step("list", lambda: [*self.world.store.list(prefix)])
        if not self.world.torn_listings:
            return iter(entries)
        # Entries are read in separate steps, and left out if they were deleted meanwhile.
        return iter([entry for entry in entries if self.look(entry.name)])

    def look(self, name: str) -> bool:
        return self.step("look", lambda: self.world.store.get(name)) is not None

    # -- the driver

    def drive(self, manager: SlotLockManager, keys: Sequence[str], rounds: int) -> None:
        take_turns(self, manager, keys, rounds)


class EpochWorld(World):
    """Machines that share a store."""

    machine_class = StoreMachine

    def __init__(
        self,
        seed: int,
        *,
        keys: Sequence[str] = ("k",),
        machines: int = 3,
        rounds: int = 12,
        polls: tuple[float, float] = (0.1, 2.0),
        torn_listings: bool = False,
        epochs: type[Epochs] = Epochs,
        registry: type[SessionRegistry] = SessionRegistry,
    ) -> None:
        self.store = MemoryStore()
        self.polls = polls
        self.torn_listings = torn_listings
        self._kinds = epochs, registry
        super().__init__(seed, machines=machines, keys=keys, rounds=rounds, delicate=["put_if_absent", "put", "look"])

    def run(self, **options: Any) -> World:
        # All machines are this process, so each is judged by its heartbeat, as on another machine.
        with mock.patch.object(ProcessIdentity, "is_gone", return_value=False):
            return super().run(**options)

    def make_manager(self, machine: StoreMachine) -> SlotLockManager:
        epochs, registry = self._kinds
        manager = SlotLockManager(machine, reach="network", poll_seconds=self.polls, clock=machine)
        manager._prepared = True  # the probe is not part of the simulation
        manager._epochs = epochs(machine, clock=machine)
        manager._registry = registry(machine, clock=machine)
        return manager


# -- the tests

SEEDS = range(25)
MORE_SEEDS = range(25, 100)
SHORT_WORLDS = amount(here=250, in_ci=1_000)


class NoLookAfterCreating(Epochs):
    """A mistake: take a successful `put_if_absent` for the lock."""

    def is_top(self, epoch: Epoch) -> bool:
        super().is_top(epoch)
        return True


class DeleteAndCreate(Epochs):
    """A mistake: break a dead lock by deleting it and creating it again under the same name."""

    def create(self, epoch: Epoch) -> bool:
        name = _name(epoch.key, 1)
        self._store.delete(name)
        return self._store.put_if_absent(name, _encoded(epoch))

    def is_top(self, epoch: Epoch) -> bool:
        return True


class Impatient(SessionRegistry):
    """A mistake: consider a session dead after half its lease."""

    def _left(self, session: SessionObject, before: float, after: float) -> float:
        return super()._left(replace(session, lease_seconds=session.lease_seconds / 2), before, after)


class DeletesTheTop(Epochs):
    """A mistake: delete all epochs on release."""

    def overwrite(self, epoch: Epoch) -> None:
        for number in self._numbers(epoch.key):
            self._store.delete(_name(epoch.key, number))


def run_all(worlds: Iterable[EpochWorld]) -> None:
    for world in worlds:
        world.run()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_drivers_hold_a_key(seed: int) -> None:
    assert EpochWorld(seed).run().takes > 0


@pytest.mark.slow
@pytest.mark.parametrize(("torn_listings", "keys"), [(False, "k"), (True, "k"), (False, "kl")])
def test_no_two_drivers_hold_a_key_in_many_worlds(torn_listings: bool, keys: str) -> None:
    run_all([EpochWorld(seed, torn_listings=torn_listings, keys=keys) for seed in MORE_SEEDS])


def short_world(seed: int, **wrong: Any) -> EpochWorld:
    machines, keys = 2 + seed % 2, "kl"[: 1 + seed % 3 // 2]
    return EpochWorld(
        seed, machines=machines, keys=keys, rounds=2, polls=(1.0, 10.0), torn_listings=seed % 5 > 2, **wrong
    )


@pytest.mark.slow
def test_no_two_drivers_hold_a_key_in_many_short_worlds() -> None:
    for seed in seeds(SHORT_WORLDS):
        short_world(seed).run()


@pytest.mark.evidence
@pytest.mark.timeout(3600)
def test_no_two_drivers_hold_a_key_in_twenty_thousand_short_worlds() -> None:
    for seed in seeds(20_000)[SHORT_WORLDS:]:
        short_world(seed).run()


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": NoLookAfterCreating},
        {"epochs": DeleteAndCreate},
        {"epochs": DeletesTheTop},
        {"registry": Impatient},
    ],
    ids=lambda wrong: next(iter(wrong.values())).__name__,
)
def test_short_worlds_find_the_mistakes_too(wrong: dict[str, Any]) -> None:
    with pytest.raises(Violation):
        run_all(short_world(seed, **wrong) for seed in range(3_000))


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_determines_the_history(seed: int) -> None:
    assert EpochWorld(seed).run().trace == EpochWorld(seed).run().trace


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [NoLookAfterCreating, DeleteAndCreate, DeletesTheTop])
def test_a_wrong_algorithm_is_caught(mutant: type[Epochs]) -> None:
    worlds = [EpochWorld(seed, epochs=mutant) for seed in range(60)]
    with pytest.raises(Violation):
        run_all(worlds)


@pytest.mark.slow
def test_considering_a_session_dead_too_early_is_caught() -> None:
    worlds = [EpochWorld(seed, registry=Impatient) for seed in range(60)]
    with pytest.raises(Violation, match="at once"):
        run_all(worlds)
