"""Which type of which package is digested how: arrays, tables, random number generators, addresses, collections.

Nothing is imported to find out: a value's class names its package.
"""

from __future__ import annotations

from penstock.digests.walk import Branch


def branch_for(cls: type) -> Branch | None:
    """How values of a class of one of these packages are digested; None for all others."""
    package, _, _ = (getattr(cls, "__module__", None) or "").partition(".")
    if package not in _PACKAGES:
        return None
    from penstock.digests.package_types import TABLES  # not before there is a value of one of these packages

    table = TABLES[package]
    for base in cls.__mro__:
        branch = table.get(f"{base.__module__.partition('.')[0]}.{base.__name__}")
        if branch is not None:
            return branch if base is cls or base.__name__ in _OPEN else None
    return None


_PACKAGES = frozenset(
    {"numpy", "dask", "toolz", "ray", "scipy", "pytz", "random", "ipaddress", "pyarrow", "pandas", "polars"}
)
"""Those whose types have a table."""
_OPEN = frozenset(
    {"generic", "dtype", "BitGenerator", "BaseTzInfo", "_spbase", "spmatrix", "DaskMethodsMixin"}
    | {"Array", "Scalar", "DataType"}
    | {"Index", "ExtensionArray", "ExtensionDtype"}
)
"""Base classes whose subclasses say in their digest which they are; for all others a subclass is not its base."""
