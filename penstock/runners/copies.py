"""Each consumer gets a value of its own, as on a cluster: what one task does to it never reaches another or the
cache.
"""

from __future__ import annotations

import copy
from typing import Any

from penstock.loaded import loaded

_IMMUTABLE = frozenset({int, str, float, bool, type(None), bytes, complex})
_IMMUTABLE_PACKAGES = frozenset({"pyarrow", "polars", "datetime", "decimal", "fractions", "uuid", "pathlib"})


class CannotCopy(Exception):
    """The value has to be loaded from the store again to get one that nobody shares."""


def own_copy(value: Any) -> Any:
    """The value itself if nobody can change it, else a copy; raises `CannotCopy` for types whose copying is not
    known.
    """
    kind = type(value)
    if kind in _IMMUTABLE or kind.__module__.partition(".")[0] in _IMMUTABLE_PACKAGES:
        return value
    if kind is list:
        return [v if type(v) in _IMMUTABLE else own_copy(v) for v in value]
    if kind is tuple:
        return tuple([v if type(v) in _IMMUTABLE else own_copy(v) for v in value])
    if kind is dict:
        return {own_copy(k): own_copy(v) for k, v in value.items()}
    if kind is set:
        return {own_copy(v) for v in value}
    if kind is frozenset:
        return value
    return _copy_known(value)


def _copy_known(value: Any) -> Any:
    numpy = loaded("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic):
        return copy.deepcopy(value) if value.dtype.hasobject else value.copy()
    pandas = loaded("pandas")
    if pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series | pandas.Index):
        # From pandas 3 on a shallow copy is a snapshot (copy on write); cells that hold objects are shared even so.
        writes_copied = int(pandas.__version__.split(".")[0]) >= 3
        return value.copy(deep=not writes_copied)
    raise CannotCopy
