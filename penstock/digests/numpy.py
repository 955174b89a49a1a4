"""Canonical digests of numpy values, based on dtype, shape and elements, not on layout and byte order.

Those of SciPy's sparse arrays are based on format, shape, dtype and entries, not on their order.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from penstock.digests.walk import UndigestibleError, Walk, hash_buffers, hash_leaf, hash_node, hash_type, label

_BLOCK = 1 << 20
"""How many elements are converted at a time if a value must be copied."""


def dtype_digest(value: Any, walk: Walk) -> bytes:
    found = _dtype(value, walk)
    # Metadata attached to a dtype (h5py uses it for strings and enums). Pickling adds an empty one in older numpy.
    return found if not value.metadata else hash_node(b"numpy.noted", (found, walk.of(dict(value.metadata))))


def dtype_object(value: Any, walk: Walk) -> bytes:
    """Return the digest of a dtype as a value. Its padding counts, since arrays created from it have it."""
    found = hash_node(b"numpy.dtypeobject", (dtype_digest(value, walk),))
    if value.isalignedstruct:
        found = hash_node(b"numpy.aligned", (found,))
    unusual = _unusual_layouts(value, value.isalignedstruct)
    return hash_node(b"numpy.layout", (found, walk.of(unusual))) if unusual else found


def _unusual_layouts(dtype: Any, align: bool, path: tuple[str, ...] = ()) -> list[Any]:
    """Return the structs in a dtype that do not have the layout that numpy gives their fields, with their places."""
    import numpy as np

    if dtype.subdtype is not None:
        return _unusual_layouts(dtype.subdtype[0], align, path)
    if dtype.names is None:
        return []
    formats, offsets = zip(*[dtype.fields[name][:2] for name in dtype.names], strict=True) if dtype.names else ((), ())
    usual: Any = np.dtype({"names": list(dtype.names), "formats": list(formats)}, align=align)
    found: list[Any] = []
    said = (offsets, dtype.itemsize, dtype.isalignedstruct)
    if said != (tuple(usual.fields[name][1] for name in dtype.names), usual.itemsize, align):
        found.append((path, *said))
    for name, held in zip(dtype.names, formats, strict=True):
        found += _unusual_layouts(held, align, (*path, name))
    return found


def _dtype(value: Any, walk: Walk) -> bytes:
    if value.names is not None:
        fields = [label(name) + dtype_digest(value.fields[name][0], walk) for name in value.names]
        titles = {name: field[2] for name, field in value.fields.items() if len(field) > 2 and name in value.names}
        found = hash_node(b"numpy.struct", fields)
        return hash_node(b"numpy.titled", (found, walk.of(titles))) if titles else found
    if value.subdtype is not None:
        shape = hash_leaf(b"shape", repr(value.subdtype[1]).encode())
        return hash_node(b"numpy.subarray", (dtype_digest(value.subdtype[0], walk), shape))
    if value.kind == "T":
        found = hash_leaf(b"numpy.dtype", b"T")
        missing = [walk.of(value.na_object)] if hasattr(value, "na_object") else []
        if missing or not value.coerce:
            return hash_node(b"numpy.text", (found, walk.of(value.coerce), *missing))
        return found
    if value.kind in "fc" and value.char.lower() == "g":
        raise UndigestibleError("numpy.longdouble has no portable representation")
    return hash_leaf(b"numpy.dtype", value.newbyteorder("<").str.encode())


def scalar(value: Any, walk: Walk) -> bytes:
    import numpy as np

    found = hash_node(b"numpy.scalar", (ndarray(np.asarray(value), walk),))
    # As an array, a single NUL is the empty text.
    is_nul = value.dtype.kind in "SU" and value.ndim == 0 and value.dtype.itemsize and value in ("\0", b"\0")
    return hash_node(b"numpy.nul", (found,)) if is_nul else found


def ndarray(value: Any, walk: Walk) -> bytes:
    """Return the digest of a plain numpy array: dtype, shape, and the elements in C order."""
    return hash_node(
        b"numpy.ndarray",
        (dtype_digest(value.dtype, walk), walk.of(tuple(map(int, value.shape))), _elements(value, walk)),
    )


def _elements(value: Any, walk: Walk) -> bytes:
    kind = value.dtype.kind
    if value.dtype.names is not None:
        return hash_node(b"numpy.fields", [ndarray(value[name], walk) for name in value.dtype.names])
    if kind in "OT":
        return hash_node(b"numpy.objects", object_digests(value.ravel(order="C").tolist(), walk))
    if kind in "fc" and _has_nan(value):
        return hash_buffers(b"data", _nan_free(value), nbytes=value.nbytes)
    little = value.dtype.newbyteorder("<") == value.dtype
    if value.flags.c_contiguous and little:
        return hash_buffers(b"data", [value.reshape(-1).view("u1")] if value.nbytes else [], nbytes=value.nbytes)
    return hash_buffers(b"data", _pieces(value), nbytes=value.nbytes)


def object_digests(items: Iterable[Any], walk: Walk) -> list[bytes]:
    return [walk.at(f"[{number}]", item) for number, item in enumerate(items)]


def _pieces(value: Any) -> Iterator[Any]:
    """Yield blocks of the elements in C order and little-endian, whatever the layout of the array."""
    import numpy as np

    if value.size == 0 or value.dtype.itemsize == 0:
        return
    little = [value.dtype.newbyteorder("<")]
    for piece in np.nditer(
        [value], ["external_loop", "buffered"], order="C", buffersize=_BLOCK, op_dtypes=little, casting="equiv"
    ):
        yield np.ascontiguousarray(piece).view("u1")


def _has_nan(value: Any) -> bool:
    import numpy as np

    if value.size == 0:
        return False
    with np.errstate(all="ignore"):
        # The minimum propagates NaN and needs no memory.
        return bool(np.isnan(value.min() if value.dtype.kind == "f" else value.real.min() + value.imag.min()))


def _nan_free(value: Any) -> Iterator[Any]:
    """Replace all NaNs by a single one, since their bits depend on the processor."""
    import numpy as np

    real = {2: "<f2", 4: "<f4", 8: "<f8", 16: "<f8"}[value.dtype.itemsize]
    real = "<f4" if value.dtype.str[1:] == "c8" else real
    for piece in _pieces(value):
        numbers = piece.view(real)
        yield np.where(np.isnan(numbers), np.array(np.nan, real), numbers).astype(real, copy=False).view("u1")


def _unmasked(data: Any, mask: Any) -> Any:
    """Return the data with zeros under the mask. Each field of a struct has a mask of its own."""
    import numpy as np

    if data.dtype.names is None:
        return np.where(mask, np.zeros((), data.dtype), data)
    made = np.array(data, subok=False)
    for name in data.dtype.names:
        made[name] = _unmasked(data[name], mask[name])
    return made


def masked(value: Any, walk: Walk) -> bytes:
    import numpy as np

    mask = np.ma.getmaskarray(value)
    data = _unmasked(value.data, mask)
    found = hash_node(b"numpy.masked", (ndarray(data, walk), ndarray(mask, walk), walk.of(value.fill_value)))
    return hash_node(b"numpy.hardmask", (found,)) if value.hardmask else found


def function(value: Any, _: Walk) -> bytes:
    """Return the digest of one of numpy's own functions: its name."""
    return hash_leaf(b"builtin", f"{value.__module__}:{value.__name__}".encode())


def ufunc(value: Any, _: Walk) -> bytes:
    """Return the digest of a universal function of numpy or scipy: its name. One created at run time has none."""
    import numpy as np

    for package in (np, sys.modules.get("scipy.special")):
        if getattr(package, value.__name__, None) is value:
            return hash_leaf(b"builtin", f"{package.__name__}:{value.__name__}".encode())  # type: ignore[union-attr]
    raise UndigestibleError(f"the universal function {value.__name__!r} has no stable digest")


def sparse_array(value: Any, walk: Walk) -> bytes:
    """Return the digest of the stored entries, sorted by position, with duplicates summed."""
    import numpy as np

    entries = value.tocoo(copy=True)
    entries.sum_duplicates()
    places = [np.asarray(index, "<i8") for index in getattr(entries, "coords", None) or (entries.row, entries.col)]
    order = np.lexsort(places[::-1])
    parts = [ndarray(part[order], walk) for part in (*places, entries.data)]
    return hash_node(b"scipy.sparse", (hash_type(type(value)), walk.of(tuple(map(int, value.shape))), *parts))
