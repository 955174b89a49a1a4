"""What is damaged among the lock objects of a store or folder, and how it is mended, when an operator asks for it.

Damaged objects hold up nobody for longer than a lease as it is. Repairing leaves none behind, frees what they held at
once, and takes away what nobody but an operator should: numbers and tokens so high that there is none above them.

Mending is as safe as any session is. A session whose object is removed finds itself lost at its next look, and what it
held is passed on by a higher number, as ever.
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
"""What nobody wrote to for so long is nobody's: a session that lives writes three times in each lease."""
_WAITS = "it was written to less than a minute ago, perhaps by somebody who lives: try again"


def repair_objects(epochs: Epochs, registry: SessionRegistry, clock: Clock, *, dry_run: bool) -> list[Damage]:
    """Of numbered epochs and session objects. Raises what the store raises."""
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
    """Of files of claims. Raises `LockError`."""
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
            found.append(Damage(name, "no token is above the one it holds"))
        elif table.opening is None:
            quiet = tables.age(session_id) >= _QUIET_SECONDS
            found.append(Damage(name, "nobody can read whose it is" if quiet else _WAITS, mendable=quiet))
        if not dry_run and found and found[-1].name == name and found[-1].mendable:
            tables.remove(session_id)
    return found
