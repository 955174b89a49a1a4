"""Stores, lock managers, runners and formats of other packages, found by their entry points.

A package adds one by an entry point in its `pyproject.toml`; whoever installs it uses it by address:

    [project.entry-points."penstock.stores"]
    sqlite = "penstock_sqlite:open_store"        # open_store("sqlite:///data/results.db") -> Store

Group               Name                     Object
penstock.stores     scheme of the address    callable(address) -> Store
penstock.locks      scheme of the address    callable(address, *, lease_seconds) -> LockManager
penstock.runners    scheme, or word          callable(address) -> Runner
penstock.formats    any                      a Serializer, or a class of one that takes no arguments

Names that Penstock has itself cannot be taken. An entry point is code of an installed package: it is loaded when an
address asks for it, formats when a value is met that else only pickle keeps, or a codec that is not Penstock's.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal

from penstock.errors import ConfigurationError
from penstock.objects.texts import text_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Group = Literal["penstock.stores", "penstock.locks", "penstock.runners", "penstock.formats"]


def plugin_names(group: Group) -> list[str]:
    """The names other packages have registered in a group, sorted."""
    return sorted(_found(group))


def load_plugin(group: Group, name: str) -> Any:
    """Load what another package has registered under a name.

    Args:
        group: The kind of thing.
        name: The scheme of an address, or a word.

    Returns:
        The object of the entry point; None if nobody has registered the name.

    Raises:
        ConfigurationError: Two packages have registered the name, or the package fails while it is imported.
    """
    points = _found(group).get(name, ())
    if not points:
        return None
    if len({point.value for point in points}) > 1:
        raise ConfigurationError(
            f"two packages add {name!r} to {group}",
            because=" and ".join(sorted(point.value for point in points)),
            hint="uninstall one of them",
        )
    point = points[0]
    try:
        return point.load()
    except Exception as error:
        raise ConfigurationError(
            f"{group} {name!r} cannot be loaded",
            where=point.value,
            because=f"{type(error).__name__}: {text_of(error)}",
            hint="reinstall or uninstall the package that adds it",
        ) from error


@functools.cache
def _found(group: Group) -> dict[str, tuple[EntryPoint, ...]]:
    # What is installed does not change under a process; looking through it takes milliseconds, and so does this import.
    from importlib.metadata import entry_points

    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=group):
        found[point.name] = (*found.get(point.name, ()), point)
    return found
