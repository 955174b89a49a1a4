"""The locks of one machine's folder in a simulated world (see `worlds`). Each machine stands for a process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from unittest import mock

import pytest

from penstock.locks.base import Holder
from penstock.locks.table_sessions import TableLocks, _TableSession
from penstock.locks.table_set import Tables
from penstock.locks.tables import Table
from penstock.process.identity import ProcessIdentity
from tests.amounts import amount
from tests.locks.worlds import LEASE, Crashed, Machine, Violation, World, seeds, take_turns

pytestmark = pytest.mark.untraced


class File:
    """A file whose last bytes may not be written yet."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._seen = 0
        self._number = 0

    def extend(self, data: bytes, seen: int) -> int:
        self._seen = len(self._data) + seen
        self._data += data
        self._number += 1
        return self._number

    def seen(self) -> bytes:
        return bytes(self._data[: self._seen])

    def finish(self, number: int) -> None:
        if number == self._number:
            self._seen = len(self._data)

    def cut(self, number: int) -> None:
        if number == self._number:
            del self._data[self._seen :]


class FileMachine(Machine):
    """A process whose files are the world's; every system call is a step."""

    world: FolderWorld
    folder = "claims"

    # -- what `TableFiles` does

    def names(self) -> list[str]:
        return self.step("list", lambda: list(self.world.files))

    def create(self, name: str, data: bytes) -> None:
        self.step("create", lambda: self.world.files.setdefault(name, File()))
        self._write(self.world.files[name], data)

    def append(self, name: str, data: bytes) -> bool:
        file = self.step("open", lambda: self.world.files.get(name))
        if file is None:
            return False
        self._write(file, data)
        return self.step("check", lambda: self.world.files.get(name) is file)

    def _write(self, file: File, data: bytes) -> None:
        # Now and then a reader sees only part of it, or a crash leaves only part; other writers follow the whole.
        half = len(data) // 2 if self.world.torn_writes else len(data)
        number = self.step("write", lambda: file.extend(data, half))
        if half < len(data):
            try:
                self.step("written", lambda: file.finish(number))
            except Crashed:
                file.cut(number)
                raise

    def read(self, name: str, start: int) -> bytes | None:
        def found() -> bytes | None:
            file = self.world.files.get(name)
            return None if file is None else file.seen()[start:]

        return self.step("read", found)

    def remove(self, name: str) -> None:
        self.step("remove", lambda: self.world.files.pop(name, None))

    def age(self, name: str) -> float:
        return 0.0

    # -- the driver

    def drive(self, manager: TableLocks, keys: Sequence[str], rounds: int) -> None:
        take_turns(self, manager, keys, rounds)


class FolderWorld(World):
    """Processes that share a folder."""

    machine_class = FileMachine

    def __init__(
        self,
        seed: int,
        *,
        keys: Sequence[str] = ("k",),
        machines: int = 3,
        rounds: int = 12,
        polls: tuple[float, float] = (0.1, 2.0),
        tables: type[Tables] = Tables,
        wrong: dict[str, Any] | None = None,
    ) -> None:
        self.files: dict[str, File] = {}
        self.torn_writes = seed % 3 == 0
        self.polls = polls
        self._tables = tables
        self._wrong = wrong or {}
        super().__init__(seed, machines=machines, keys=keys, rounds=rounds, delicate=["check", "read"])

    def run(self, **options: Any) -> World:
        # All machines are this process, so each is judged by its heartbeat.
        with (
            mock.patch.object(ProcessIdentity, "is_gone", return_value=False),
            mock.patch.multiple(_TableSession, **{"_refused": _TableSession._refused, **self._wrong}),
        ):
            return super().run(**options)

    def make_manager(self, machine: FileMachine) -> TableLocks:
        manager = TableLocks(machine, lease_seconds=None, poll_seconds=self.polls, clock=machine)  # type: ignore[arg-type]
        manager.tables = self._tables(machine, clock=machine)  # type: ignore[arg-type]
        return manager


# -- the tests

SEEDS = range(25)
MORE_SEEDS = range(25, 25 + amount(here=25, in_ci=100))
SHORT_WORLDS = amount(here=250, in_ci=1_000)


class Impatient(Tables):
    """A mistake: consider a session dead after half its lease."""

    def _left(self, table: Table, before: float, after: float) -> float:
        return max(0.0, super()._left(table, before, after) - LEASE / 2)


def looks_only_before(self: Any, keys: list[str]) -> dict[str, Holder]:
    """A mistake: take what was free at the first look."""
    return {}


_rival = _TableSession._rival


def ignores_the_undecided(self: Any, key: str, tables: Iterable[Table]) -> tuple[Holder | None, bool]:
    """A mistake: continue although another wants the key, too."""
    holder, waits = _rival(self, key, tables)
    return (None, False) if waits else (holder, waits)


MUTANTS: dict[str, dict[str, Any]] = {
    "impatient": {"tables": Impatient},
    "looks only before": {"wrong": {"_refused": looks_only_before}},
    "ignores the undecided": {"wrong": {"_rival": ignores_the_undecided}},
}


def run_all(worlds: Iterable[FolderWorld]) -> None:
    for world in worlds:
        world.run()


def short_world(seed: int, **wrong: Any) -> FolderWorld:
    machines, keys = 2 + seed % 2, "kl"[: 1 + seed % 3 // 2]
    return FolderWorld(seed, machines=machines, keys=keys, rounds=2, polls=(1.0, 10.0), **wrong)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_processes_hold_a_key(seed: int) -> None:
    assert FolderWorld(seed).run().takes > 0


@pytest.mark.slow
@pytest.mark.parametrize("keys", ["k", "kl"])
def test_no_two_processes_hold_a_key_in_many_worlds(keys: str) -> None:
    run_all([FolderWorld(seed, keys=keys) for seed in MORE_SEEDS])


@pytest.mark.slow
def test_no_two_processes_hold_a_key_in_many_short_worlds() -> None:
    for seed in seeds(SHORT_WORLDS):
        short_world(seed).run()


@pytest.mark.evidence
@pytest.mark.timeout(3600)
def test_no_two_processes_hold_a_key_in_twenty_thousand_short_worlds() -> None:
    for seed in seeds(20_000)[SHORT_WORLDS:]:
        short_world(seed).run()


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_determines_the_history(seed: int) -> None:
    assert FolderWorld(seed).run().trace == FolderWorld(seed).run().trace


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_mistakes_are_found(mutant: str) -> None:
    with pytest.raises(Violation):
        run_all(short_world(seed, **MUTANTS[mutant]) for seed in range(3_000))
