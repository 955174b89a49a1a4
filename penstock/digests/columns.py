"""Selects how types of other packages are digested: arrays, tables, random number generators, addresses, collections.

By the name of a value's class and package, so that nothing is imported.
"""

from __future__ import annotations

from penstock.digests.walk import Branch
from penstock.objects.texts import package_of


def branch_for(cls: type) -> Branch | None:
    """Return how values of a class of one of these packages are digested, or None for other classes."""
    package = package_of(cls)
    if package not in _PACKAGES:
        return None
    from penstock.digests.package_types import TABLES  # only needed for values of these packages

    table = TABLES[package]
    for base in cls.__mro__:
        branch = table.get(f"{package_of(base)}.{base.__name__}")
        if branch is not None:
            return branch if base is cls or base.__name__ in _OPEN else None
    return None


_PACKAGES = frozenset(
    {"numpy", "dask", "toolz", "ray", "scipy", "pytz", "random", "ipaddress", "pyarrow", "pandas", "polars"}
)
"""The packages whose types have a table."""
_OPEN = frozenset(
    {"generic", "dtype", "BitGenerator", "BaseTzInfo", "_spbase", "spmatrix", "DaskMethodsMixin"}
    | {"Array", "Scalar", "DataType", "Expr"}
    | {"Index", "ExtensionArray", "ExtensionDtype"}
)
"""Base classes whose digests contain the subclass. Subclasses of other types are not digested as their base."""
