"""Plugins: stores, lock managers, runners and formats of other packages, found by their entry points.

A package declares an entry point in its `pyproject.toml`; after installing it, users refer to the plugin by address:

    [project.entry-points."penstock.stores"]
    sqlite = "penstock_sqlite:open_store"        # open_store("sqlite:///data/results.db") -> Store

Group               Name                     Object
penstock.stores     scheme of the address    callable(address) -> Store
penstock.locks      scheme of the address    callable(address, *, lease_seconds) -> LockManager
penstock.runners    scheme, or word          callable(address) -> Runner
penstock.formats    any                      a Serializer, or a class of one that takes no arguments

Plugins cannot replace what Penstock has itself. A plugin is only imported when it is needed: for an address with its
scheme, and a format for a value that would otherwise be pickled, or for a codec that Penstock does not know.
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
    """Return the names that other packages have registered in a group, sorted."""
    return sorted(_found(group))


def load_plugin(group: Group, name: str) -> Any:
    """Load the object that another package has registered under a name.

    Args:
        group: The group of entry points.
        name: The scheme of an address, or the name of a runner.

    Returns:
        The object of the entry point, or None if the name is not registered.

    Raises:
        ConfigurationError: Two packages have registered the name, or importing the package fails.
    """
    points = _found(group).get(name, ())
    if not points:
        return None
    if len({point.value for point in points}) > 1:
        raise ConfigurationError(
            f"two packages register {name!r} in {group}",
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
            hint="reinstall or uninstall the package that registers it",
        ) from error


@functools.cache
def _found(group: Group) -> dict[str, tuple[EntryPoint, ...]]:
    # Cached, because reading the metadata takes milliseconds, and lazy, because so does this import.
    from importlib.metadata import entry_points

    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=group):
        found[point.name] = (*found.get(point.name, ()), point)
    return found
