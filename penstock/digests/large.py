"""Large arguments: one snapshot, one digest and one transfer, however many calls of a run are given the same object.

A `Large` stands in a node's arguments for such a value, as a `Ref` stands for another node's result. Whoever runs the
call takes a value of its own from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import is_
from typing import Any

from penstock.imported import loaded
from penstock.objects.texts import package_of

LARGE_BYTES = 256 * 1024
"""Smaller values are copied and sent with each call, which costs less than to know them again."""
FLAT_ITEMS = 8192
"""So many numbers and strings in one list, tuple, dict or set are large."""
_COMPARED = 1 << 20
"""Bytes of two arrays that are compared at a time: in the cache, and without large temporary values."""

PLAIN = frozenset({int, str, float, bool, type(None), bytes, complex})
"""Types whose values nobody can change."""


class Large:
    """A large value among the arguments of calls. It pickles without the value: `handle` says where workers get it."""

    __slots__ = ("_digest", "_load", "_value", "handle", "name", "size", "uses")

    def __init__(
        self, name: int, size: int, *, value: Any = None, load: Callable[[], Any] | None = None, digest: bytes | None
    ) -> None:
        """`load` gives a new value each time; without it there is `value`, which nobody changes."""
        self.name = name
        """Its number in the run."""
        self.size = size
        """About so many bytes."""
        self.handle: Any = None
        """Where an engine's workers find it."""
        self.uses = 0
        """By calls that are not over."""
        self._value = value
        self._load = load
        self._digest = digest

    def take(self) -> Any:
        """The value, as one that nobody else can change."""
        return snapshot(self._value) if self._load is None else self._load()

    def shared(self) -> Any:
        """The value itself: only to be read."""
        return self._value if self._load is None else self._load()

    def load_by(self, load: Callable[[], Any]) -> None:
        """On a worker: from where to take it."""
        self._load = load

    def digest(self, compute: Callable[[Any], bytes]) -> bytes:
        """Its digest, computed the first time it is asked for."""
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

    The same object is known again if it did not change since; that is looked up by its identity and decided by its
    content, so an object that was changed, or took the place of another, is a new value.
    """

    def __init__(self, digest: Callable[[Any], bytes]) -> None:
        """`digest` raises for what has none."""
        self._digest = digest
        self._known: dict[int, Large] = {}
        self._count = 0

    def take(self, value: Any, shared: list[Any] | None = None) -> Any:
        """A `Large` that stands for the value, or a snapshot of it if it is small; `shared` as of `snapshot`."""
        size = size_of(value)
        if size < LARGE_BYTES:
            return snapshot(value, shared)
        known = self._known.get(id(value))
        if known is None or not self._unchanged(value, known):
            known = self._known[id(value)] = Large(self._count, size, value=snapshot(value), digest=None)
            self._count += 1
        return known

    def _unchanged(self, value: Any, known: Large) -> bool:
        before = known.shared()
        if value is before:
            return True  # nobody can change it, or it would have been copied
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
        except Exception:  # noqa: BLE001 (cells are users' objects; what has no digest is not known again)
            return False


def size_of(value: Any) -> int:
    """About how many bytes a value takes if it is of a kind that can be known again, else 0."""
    kind = type(value)
    if kind is bytes or kind is str or kind is bytearray:
        return len(value)
    if kind in _FLAT:
        return 40 * len(value)  # they come here if they are flat
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
    """Whether a list, tuple, dict or set holds many things, and only such as nobody can change."""
    if len(value) < FLAT_ITEMS:
        return False
    return PLAIN.issuperset(map(type, value)) and (
        type(value) is not dict or PLAIN.issuperset(map(type, value.values()))
    )


def snapshot(value: Any, shared: list[Any] | None = None) -> Any:
    """The value as it is now, whatever is done to it later; objects whose copying is not known stay the same ones, and
    are added to `shared`.
    """
    kind = type(value)
    if kind is list or kind is dict or kind is set or kind is bytearray:
        return kind(value)
    if kind in PLAIN:
        return value
    from penstock.objects.copies import copy_as_far  # the types it knows are for calls that are given some
    from penstock.objects.package_copies import frozen

    numpy = loaded("numpy")
    if numpy is not None and issubclass(kind, numpy.ndarray) and not (kind is numpy.ndarray and value.dtype == object):
        # What repeats one element for ever takes no memory, and its copy would.
        kept = frozen(numpy, value) or (not value.flags.writeable and 0 in value.strides)
        if value.dtype.hasobject and value.dtype.kind != "T" and shared is not None:
            shared.append(value)
        return value if kept else value.copy()
    pandas = loaded("pandas")
    if pandas is not None and issubclass(kind, (pandas.DataFrame, pandas.Series)):
        if kind is pandas.DataFrame or kind is pandas.Series:
            return copy_as_far(value, [] if shared is None else shared)
        if shared is not None:
            shared.append(value)
        # From pandas 3 on a shallow copy is a snapshot (copy on write); before that only a deep one is.
        return value.copy(deep=int(pandas.__version__.split(".")[0]) < 3)
    polars = loaded("polars")
    if polars is not None and issubclass(kind, (polars.DataFrame, polars.Series)):
        if shared is not None and polars.Object in (value.dtypes if hasattr(value, "dtypes") else [value.dtype]):
            shared.append(value)
        return value.clone()  # shares what is never written in place
    return copy_as_far(value, [] if shared is None else shared)


def _same_items(value: Any, before: Any) -> bool:
    """Whether they hold the same objects in the same order; equal ones may be of another type."""
    if type(value) is set:
        return set(map(id, value)) == set(map(id, before))
    if len(value) != len(before) or not _all_same(value, before):
        return False
    return type(value) is not dict or _all_same(value.values(), before.values())


def _all_same(value: Iterable[Any], before: Iterable[Any]) -> bool:
    return all(map(is_, value, before))


def _same_array(numpy: Any, value: Any, before: Any) -> bool:
    """Whether two arrays have the same bytes. (Equal numbers may have others: -0.0 and 0.0, one NaN and another.)"""
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
