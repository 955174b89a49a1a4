"""Repair damaged lock objects of a store or folder, when an operator asks for it.

A damaged object never blocks other sessions for longer than a lease. A repair removes it, and frees its locks at once.
It also removes numbers and tokens that are so high that none is above them, which only an operator should do.

A repair is safe while sessions are running. A session whose object is removed finds itself lost at its next look, and
its locks pass to other sessions with higher numbers, as usual.
"""

from __future__ import annotations

from penstock.clocks import Clock
from penstock.errors import LockError
from penstock.locks.base import DEFAULT_LEASE_SECONDS, Damage
from penstock.locks.documents import LAST_TOKEN
from penstock.locks.epochs import Epochs
from penstock.locks.liveness import SessionRegistry
from penstock.locks.table_set import Tables

_QUIET_SECONDS = 2 * DEFAULT_LEASE_SECONDS
"""An object that was not written for so many seconds belongs to no living session: those write thrice per lease."""
_WAITS = "it was written less than a minute ago, possibly by a living session; try again later"


def repair_objects(epochs: Epochs, registry: SessionRegistry, clock: Clock, *, dry_run: bool) -> list[Damage]:
    """Repair numbered epochs and session objects. Raises what the store raises."""
    found = [Damage(name, said) for name, said in epochs.without_next()]
    if not dry_run:
        epochs.remove(damage.name for damage in found)
    for name, said, foreign in epochs.unreadable():
        found.append(Damage(name, said, mendable=not foreign))
        if not dry_run and not foreign:
            epochs.release_above(name, clock.now())
    for name, said, age in registry.unreadable():
        quiet = age is not None and age >= _QUIET_SECONDS
        found.append(Damage(name, said if quiet or age is None else _WAITS, mendable=quiet))
        if quiet and not dry_run:
            registry.remove(name.rpartition("/")[2])
    return found


def repair_tables(tables: Tables, *, dry_run: bool) -> list[Damage]:
    """Repair files of claims. Raises `LockError`."""
    found = []
    for session_id in tables.names():
        name = tables.name(session_id)
        try:
            table = tables.refreshed(session_id)
        except LockError as error:
            found.append(Damage(name, error.because or error.what, mendable=False))
            continue
        if table is None:
            continue
        if table.highest >= LAST_TOKEN:
            found.append(Damage(name, "its token is the highest possible"))
        elif table.opening is None:
            quiet = tables.age(session_id) >= _QUIET_SECONDS
            found.append(Damage(name, "its session cannot be read" if quiet else _WAITS, mendable=quiet))
        if not dry_run and found and found[-1].name == name and found[-1].mendable:
            tables.remove(session_id)
    return found
