"""Complete descriptions of numpy's dtypes, with what the header of .npy files and `==` omit.

These are the places of fields in any order, with gaps or overlaps, the flag of aligned structs, and which of two C
types of the same size a dtype is (`longlong` or `long`).
"""

from __future__ import annotations

from typing import Any


def layout_of(dtype: Any) -> Any:
    """Return a dtype as plain JSON. Metadata is left out, and so are the parameters of variable-length text."""
    import numpy

    if dtype.names is not None:
        fields = [dtype.fields[name] for name in dtype.names]
        said = {
            "names": list(dtype.names),
            "formats": [layout_of(field[0]) for field in fields],
            "offsets": [int(field[1]) for field in fields],
            "itemsize": dtype.itemsize,
            "align": dtype.isalignedstruct,
        }
        titles = [field[2] if len(field) > 2 else None for field in fields]
        return said | ({} if titles == [None] * len(titles) else {"titles": titles})
    if dtype.subdtype is not None:
        return {"of": layout_of(dtype.subdtype[0]), "shape": list(dtype.subdtype[1])}
    if dtype.kind in "iu" and numpy.dtype(dtype.str).char != dtype.char:
        return {"c": dtype.char, "str": dtype.str}
    return dtype.str


def dtype_of(said: Any) -> Any:
    """Return the dtype that `layout_of` described. Raises `ValueError`, `TypeError` or `KeyError` for nonsense."""
    import numpy

    if isinstance(said, str):
        return numpy.dtype(said)
    if "of" in said:
        return numpy.dtype((dtype_of(said["of"]), tuple(said["shape"])))
    if "c" in said:
        plain = numpy.dtype(said["str"])
        made = numpy.dtype(said["c"]).newbyteorder(plain.byteorder)
        return made if made == plain else plain  # the sizes of C types depend on the machine
    keys = ("names", "offsets", "itemsize", "titles")
    form: Any = {key: said[key] for key in keys if key in said}
    form["formats"] = [dtype_of(each) for each in said["formats"]]
    return numpy.dtype(form, align=bool(said["align"]))
