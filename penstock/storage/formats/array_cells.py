"""numpy arrays of Python objects and variable-length strings as typed JSON, and masked arrays as records in .npy."""

from __future__ import annotations

import math
from typing import Any, BinaryIO

from penstock.errors import SerializationError
from penstock.imported import loaded
from penstock.storage.formats.arrays import NumpySerializer, facts_of_flags, is_read_only
from penstock.storage.formats.base import type_name
from penstock.storage.formats.typed.json import Unkept, decode, encode
from penstock.storage.records.records import About


class CellsSerializer:
    """Arrays of objects that typed JSON can store, and of numpy's StringDType, cell by cell."""

    name = "json/array"
    suffix = ".json"
    safe = True

    def can(self, value: Any) -> bool:
        numpy = loaded("numpy")
        if numpy is None or type(value) is not numpy.ndarray or value.dtype.kind not in "OT":
            return False
        try:
            _document(value)
        except Unkept:
            return False
        return True

    def write(self, value: Any, file: BinaryIO) -> About:
        try:
            file.write(_document(value))
        except Unkept as unkept:
            raise SerializationError(
                "typed JSON cannot store an array of objects",
                where=f"result{unkept.where}",
                because=unkept.because or f"it has no form for a {type_name(unkept.leaf)}",
            ) from None
        return About(
            rows=len(value) if value.ndim else None, details={"dtype": str(value.dtype), **facts_of_flags(value)}
        )

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        import numpy

        said = decode(data)
        shape, cells = tuple(said["shape"]), said["cells"]
        order: Any = "F" if said["order"] == "F" else "C"
        if math.prod(shape) != len(cells):
            raise SerializationError(
                "a stored array has the wrong number of elements", because=f"its shape should be {shape}"
            )
        flat = numpy.empty(len(cells), dtype=object)
        for number, cell in enumerate(cells):
            flat[number] = cell
        array = flat.reshape(shape, order=order)
        if "text" in said:
            array = array.astype(numpy.dtypes.StringDType(**said["text"]))
        array.flags.writeable = not is_read_only(about)
        return array


def _document(value: Any) -> bytes:
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    said: dict[str, Any] = {"shape": list(value.shape), "order": order, "cells": value.ravel(order=order).tolist()}
    if value.dtype.kind == "T":
        missing = {"na_object": value.dtype.na_object} if hasattr(value.dtype, "na_object") else {}
        said["text"] = {"coerce": value.dtype.coerce, **missing}
    return encode(said)


class MaskedSerializer:
    """Masked arrays, as records of data and mask that `numpy.load` can read."""

    name = "npy/masked"
    suffix = ".npy"
    safe = True
    owns_data = True

    def can(self, value: Any) -> bool:
        numpy = loaded("numpy")
        if numpy is None or type(value) is not numpy.ma.MaskedArray or value.dtype.names is not None:
            return False
        return type(value.data) is numpy.ndarray and NumpySerializer().can(value.data)

    def write(self, value: Any, file: BinaryIO) -> About:
        import numpy

        records = numpy.empty(value.shape, [("data", value.dtype), ("mask", "?")], order=_order_of(value.data))
        records["data"], records["mask"] = value.data, numpy.ma.getmaskarray(value)
        about = NumpySerializer().write(records, file)
        facts = {"hard": value.hardmask, "masked": value.mask is not numpy.ma.nomask}
        if value._fill_value is not None:
            facts["fill"] = numpy.asarray(value.fill_value).item()
        return About(
            rows=about.rows, details={**about.details, **facts_of_flags(value), "facts": encode(facts).decode()}
        )

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        import numpy

        records = NumpySerializer().read(data, About(details=about.details), limit=limit)
        facts = decode(about.details["facts"].encode())
        order = _order_of(records)
        made = numpy.ma.MaskedArray(
            records["data"].copy(order=order),
            mask=records["mask"].copy(order=order) if facts["masked"] else numpy.ma.nomask,
            hard_mask=facts["hard"],
        )
        if "fill" in facts:
            made.fill_value = facts["fill"]
        made.flags.writeable = not is_read_only(about)
        return made


def _order_of(array: Any) -> Any:
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
