"""Large arguments: one snapshot, one digest and one transfer for all calls of a run that receive the same object.

A `Large` stands for such a value in a node's arguments, as a `Ref` stands for another node's result. Each call takes a
value of its own from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from operator import is_
from typing import Any

from penstock.imported import loaded
from penstock.objects.texts import package_of

LARGE_BYTES = 256 * 1024
"""Smaller values are copied and sent with each call, which costs less than recognising them."""
FLAT_ITEMS = 8192
"""A list, tuple, dict or set of at least this many numbers and strings is large."""
_COMPARED = 1 << 20
"""How many bytes of two arrays are compared at a time: they fit into the cache and need little temporary memory."""

PLAIN = frozenset({int, str, float, bool, type(None), bytes, complex})
"""Types of immutable values."""


class Large:
    """A large value among the arguments of calls. Pickled without the value, which workers get through `handle`."""

    __slots__ = ("_digest", "_load", "_value", "handle", "name", "size", "uses")

    def __init__(
        self, name: int, size: int, *, value: Any = None, load: Callable[[], Any] | None = None, digest: bytes | None
    ) -> None:
        """`load` returns a new value on every call; without it, `value` is never modified."""
        self.name = name
        """Its number in the run."""
        self.size = size
        """Its approximate size in bytes."""
        self.handle: Any = None
        """Where an engine's workers find it."""
        self.uses = 0
        """The number of unfinished calls that use it."""
        self._value = value
        self._load = load
        self._digest = digest

    def take(self) -> Any:
        """Return a private copy of the value."""
        return snapshot(self._value) if self._load is None else self._load()

    def shared(self) -> Any:
        """Return the value itself, for reading only."""
        return self._value if self._load is None else self._load()

    def load_by(self, load: Callable[[], Any]) -> None:
        """Set the function that loads the value on a worker."""
        self._load = load

    def digest(self, compute: Callable[[Any], bytes]) -> bytes:
        """Return its digest, computed on first use."""
        if self._digest is None:
            self._digest = compute(self.shared())
        return self._digest

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.name, self.size, self._digest, self.handle)

    def __repr__(self) -> str:
        return f"<a large argument, {self.size:,} bytes>"


def _arrived(name: int, size: int, digest: bytes | None, handle: Any) -> Large:
    large = Large(name, size, digest=digest)
    large.handle = handle
    return large


class Snapshots:
    """The large arguments of one trace, each as it was when it was passed.

    An object is recognised by its identity and then compared by content, so that a modified object, or another one
    with the same id, counts as a new value.
    """

    def __init__(self, digest: Callable[[Any], bytes]) -> None:
        """`digest` raises for values without a digest."""
        self._digest = digest
        self._known: dict[int, Large] = {}
        self._numbers = itertools.count()  # two threads never get the same

    def take(self, value: Any, shared: list[Any] | None = None, done: Any = None) -> Any:
        """Return a `Large` for a large value, else a snapshot. `shared` and `done` are those of `snapshot`."""
        size = size_of(value)
        if size < LARGE_BYTES:
            return snapshot(value, shared, done)
        known = self._known.get(id(value))
        if known is None or not self._unchanged(value, known):
            known = self._known[id(value)] = Large(next(self._numbers), size, value=snapshot(value), digest=None)
        return known

    def _unchanged(self, value: Any, known: Large) -> bool:
        before = known.shared()
        if value is before:
            return True  # it is immutable, otherwise it would have been copied
        if type(value) is not type(before):
            return False
        if type(value) in _FLAT:
            return _same_items(value, before)
        if type(value) is bytearray:
            return bool(value == before)
        numpy = loaded("numpy")
        if numpy is not None and type(value) is numpy.ndarray:
            return _same_array(numpy, value, before)
        try:
            return known.digest(self._digest) == self._digest(value)
        except Exception:  # noqa: BLE001 (cells are users' objects; without a digest the value counts as changed)
            return False


def size_of(value: Any) -> int:
    """Return the approximate size of a value in bytes if it can be recognised again, else 0."""
    kind = type(value)
    if kind is bytes or kind is str or kind is bytearray:
        return len(value)
    if kind in _FLAT:
        return 40 * len(value)  # flat containers only
    package = package_of(kind)
    if package == "numpy" and kind.__name__ == "ndarray":
        return 0 if value.dtype.hasobject or 0 in value.strides else int(value.nbytes)
    if package == "pandas" and kind.__name__ in ("DataFrame", "Series"):
        return 0 if value.attrs or value.size * 8 < LARGE_BYTES else int(value.size) * 8
    if package == "polars" and kind.__name__ in ("DataFrame", "Series"):
        return int(value.estimated_size())
    if package == "pyarrow" and kind.__name__ in _OF_ARROW:
        return int(value.nbytes)
    return 0


_FLAT = frozenset({list, tuple, dict, set, frozenset})
_OF_ARROW = frozenset({"Table", "RecordBatch", "ChunkedArray"})


def is_flat(value: Any) -> bool:
    """Return whether a list, tuple, dict or set holds many values, all of them immutable."""
    if len(value) < FLAT_ITEMS:
        return False
    return PLAIN.issuperset(map(type, value)) and (
        type(value) is not dict or PLAIN.issuperset(map(type, value.values()))
    )


def snapshot(value: Any, shared: list[Any] | None = None, done: Any = None) -> Any:
    """Return the value as it is now, independent of later changes.

    Args:
        value: The value.
        shared: Parts of unknown types are kept and added to it.
        done: An `AsFar` with the snapshots of other parts of the same argument. An object that is in several places is
            one object in all of them, unless it is a list, dict or set.
    """
    kind = type(value)
    if kind is list or kind is dict or kind is set:
        return kind(value)
    if kind in PLAIN:
        return value
    if done is None:
        return _snapshot(value, shared, done)
    if id(value) not in done:
        done.setdefault(id(done), []).append(value)  # a container may have made it; no other object may get its id
        done[id(value)] = _snapshot(value, shared, done)
    return done[id(value)]


def _snapshot(value: Any, shared: list[Any] | None, done: Any) -> Any:
    kind = type(value)
    if kind is bytearray:
        return value[:]
    from penstock.objects.copies import copy_as_far  # only needed by calls with such arguments
    from penstock.objects.package_copies import frozen, memory_order

    numpy = loaded("numpy")
    if numpy is not None and issubclass(kind, numpy.ndarray) and not (kind is numpy.ndarray and value.dtype == object):
        # An array that repeats one element (stride 0) takes no memory, but its copy would.
        kept = frozen(numpy, value) or (not value.flags.writeable and 0 in value.strides)
        if value.dtype.hasobject and value.dtype.kind != "T" and shared is not None:
            shared.append(value)
        return value if kept else value.copy(order=memory_order(value))
    pandas = loaded("pandas")
    if pandas is not None and issubclass(kind, (pandas.DataFrame, pandas.Series)):
        if kind is pandas.DataFrame or kind is pandas.Series:
            return copy_as_far(value, [] if shared is None else shared, done)
        if shared is not None:
            shared.append(value)
        # Since pandas 3 a shallow copy is a snapshot (copy on write); before that only a deep copy is.
        return value.copy(deep=int(pandas.__version__.split(".")[0]) < 3)
    polars = loaded("polars")
    if polars is not None and issubclass(kind, (polars.DataFrame, polars.Series)):
        if shared is not None and polars.Object in (value.dtypes if hasattr(value, "dtypes") else [value.dtype]):
            shared.append(value)
        return value.clone()  # shares the buffers, which are never written in place
    return copy_as_far(value, [] if shared is None else shared, done)


def _same_items(value: Any, before: Any) -> bool:
    """Return whether two containers hold the identical objects in the same order; equal ones may differ in type."""
    if type(value) is set:
        return set(map(id, value)) == set(map(id, before))
    if len(value) != len(before) or not _all_same(value, before):
        return False
    return type(value) is not dict or _all_same(value.values(), before.values())


def _all_same(value: Iterable[Any], before: Iterable[Any]) -> bool:
    return all(map(is_, value, before))


def _same_array(numpy: Any, value: Any, before: Any) -> bool:
    """Return whether two arrays have the same bytes. (Equal numbers may differ in bytes, such as -0.0 and 0.0.)"""
    if value.dtype != before.dtype or value.shape != before.shape or value.dtype.metadata != before.dtype.metadata:
        return False
    if not value.ndim or not value.size:
        return False
    if not value.flags.c_contiguous and value.flags.f_contiguous:
        value, before = value.T, before.T
    rows = max(1, _COMPARED // max(1, value[:1].nbytes))
    for start in range(0, len(value), rows):
        pair = [numpy.ascontiguousarray(each[start : start + rows]).reshape(-1).view("u1") for each in (value, before)]
        if not _same_bytes(*pair):
            return False
    return True


def _same_bytes(one: Any, other: Any) -> bool:
    whole = len(one) // 8 * 8
    words = one[:whole].view("u8") == other[:whole].view("u8")
    return bool(words.all() and (one[whole:] == other[whole:]).all())
