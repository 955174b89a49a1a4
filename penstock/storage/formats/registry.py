"""The registry of serializers: which one writes a value, and which one reads a codec."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from typing import Any

from penstock.errors import CodecRefused, ConfigurationError, SerializationError
from penstock.plugins import load_plugin, plugin_names
from penstock.storage.formats.array_cells import CellsSerializer, MaskedSerializer
from penstock.storage.formats.arrays import NumpySerializer
from penstock.storage.formats.arrow.ipc import ArrowFileSerializer
from penstock.storage.formats.base import NarrowSerializer, Serializer, type_name
from penstock.storage.formats.containers import ContainerSerializer
from penstock.storage.formats.frames import ArrowSerializer, PandasSerializer, PolarsSerializer
from penstock.storage.formats.parts.datasets import DaskSerializer, RaySerializer, StreamDatasetSerializer
from penstock.storage.formats.plain import (
    BytesSerializer,
    CompressedSerializer,
    JsonSerializer,
    PickleSerializer,
    PydanticSerializer,
    StructSerializer,
)
from penstock.storage.formats.typed.json import TypedSerializer

_registry: dict[str, Serializer] = {}
"""The serializers by codec. The last registered is tried first. Global, like the types."""
_registry_lock = threading.Lock()


def _are_classes(classes: Any) -> bool:
    return isinstance(classes, tuple) and all(isinstance(each, type) for each in classes)


def register_serializer(serializer: Serializer) -> None:
    """Register a serializer, which takes precedence over those registered earlier.

    It writes the values for which its `can` is true, and reads its codec. Workers need the same registration, so call
    this in a module that they import with the task.

    Args:
        serializer: A `Serializer`. Its name must not be the codec of another one.

    Raises:
        ConfigurationError: The codec is taken, or the attribute `classes` is not a tuple of classes.
    """
    if isinstance(serializer, NarrowSerializer) and not _are_classes(serializer.classes):
        raise ConfigurationError(
            f"the classes of the serializer {serializer.name!r} are not a tuple of classes",
            hint="write classes = (MyClass,), or omit the attribute",
        )
    with _registry_lock:
        taken = _registry.get(serializer.name)
        if taken is not None and type(taken) is not type(serializer):
            raise ConfigurationError(
                f"the codec {serializer.name!r} is taken",
                because=f"by {taken!r}",
                hint="give the serializer another name",
            )
        _registry[serializer.name] = serializer


def serializer_for(value: Any, wanted: str | Serializer | None = None) -> Serializer:
    """Return the serializer for a value.

    Args:
        value: The value to write.
        wanted: A `Serializer`, the name of a codec, or its first part, such as `parquet`. None selects the first
            serializer that can write the value.

    Raises:
        SerializationError: The wanted serializer cannot write the value, or no serializer can: generators of anything
            but record batches, lazy frames.
        ConfigurationError: The name is unknown.
    """
    if wanted is None:
        return next(found for each in _candidates() if (found := prepared(each, value)) is not None)
    if not isinstance(wanted, str):
        return _checked(wanted, value)
    every = [*_candidates(), *_ON_REQUEST.values()]
    choices = [each for each in every if wanted == each.name or each.name.startswith(f"{wanted}/")]
    if not choices:
        known = ", ".join(sorted(each.name for each in every))
        raise ConfigurationError(
            f"there is no serializer {wanted!r}",
            hint=f"use one of {known}, or an instance of Serializer",
        )
    found = next((found for each in choices if (found := prepared(each, value)) is not None), None)
    return found or _checked(choices[0], value)


def prepared(serializer: Serializer, value: Any) -> Serializer | None:
    """Return the serializer, or one with the encoded value, if it can write the value; else None."""
    prepare = getattr(serializer, "prepare", None)
    if prepare is not None:
        found: Serializer | None = prepare(value)
        return found
    return serializer if serializer.can(value) else None


def reader_of(codec: str, *, allow_unsafe: bool) -> Serializer:
    """Return the serializer that reads a codec, before any byte is parsed. Raises `CodecRefused`."""
    serializer = _found(codec)
    if serializer is None:
        raise CodecRefused(
            f"no serializer reads the codec {codec!r}",
            hint="import the module that registers it, install the package that provides it, or upgrade Penstock",
            codec=codec,
        )
    if not serializer.safe and not allow_unsafe:
        raise CodecRefused(
            f"refused to read a result stored as {codec!r}",
            because="reading it could run code of anyone who can write to this store",
            hint="sign results (docs/security.md), or add ?trusted=true to the store's address if you trust everyone "
            "who can write there like your own code",
            codec=codec,
        )
    return serializer


def _reader_of_part(codec: str, allow_unsafe: bool) -> Serializer:
    return reader_of(codec, allow_unsafe=allow_unsafe)


def is_safe(codec: str) -> bool:
    """Return whether reading a codec never runs code that the bytes name. True also for unknown codecs."""
    serializer = _found(codec)
    return serializer is None or serializer.safe


def _found(codec: str) -> Serializer | None:
    return _registry.get(codec) or _ON_REQUEST.get(codec) or _of_other_packages().get(codec)


@functools.cache
def _of_other_packages() -> dict[str, Serializer]:
    loaded = [load_plugin("penstock.formats", name) for name in plugin_names("penstock.formats")]
    formats: list[Serializer] = [each() if isinstance(each, type) else each for each in loaded]
    for each in formats:
        if each.name in _OURS or each.name in _ON_REQUEST:
            raise ConfigurationError(
                f"the codec {each.name!r} is taken",
                where=f"{type(each).__module__}.{type(each).__qualname__}",
                because="it is one of Penstock's own",
                hint="uninstall the package with this format, or use a version that names it differently",
            )
    return {each.name: each for each in formats}


def _candidates() -> Iterator[Serializer]:
    """Yield the serializers in the order in which they are tried.

    Formats of other packages only precede pickle, so that the format of other values does not depend on installed
    packages, and few results pay for looking these up.
    """
    with _registry_lock:
        *own, pickle = reversed(_registry.values())
    yield from own
    yield from _of_other_packages().values()
    yield pickle


def _checked(serializer: Serializer, value: Any) -> Serializer:
    if not serializer.can(value):
        raise SerializationError(
            f"the serializer {serializer.name!r} cannot store this {type_name(value)} without loss",
            hint="omit result_serializer to let Penstock choose",
        )
    return serializer


# Tried from the last to the first: pickle takes anything, JSON is by far the most common.
for _each in (
    PickleSerializer(),
    ContainerSerializer(serializer_for, _reader_of_part, safe=False),
    ContainerSerializer(serializer_for, _reader_of_part, safe=True),
    RaySerializer(),
    DaskSerializer(),
    StreamDatasetSerializer(),
    MaskedSerializer(),
    CellsSerializer(),
    NumpySerializer(),
    PolarsSerializer("arrow"),
    PolarsSerializer("parquet"),
    PandasSerializer("arrow"),
    PandasSerializer("parquet"),
    ArrowFileSerializer(),
    ArrowSerializer(),
    TypedSerializer(),
    BytesSerializer(),
    JsonSerializer(),
):
    register_serializer(_each)
# Only on request: other tools cannot read compressed files directly, and the JSON of models may omit parts of them.
_ON_REQUEST: dict[str, Serializer] = {
    each.name: each
    for each in (
        PydanticSerializer(),
        StructSerializer(),
        CompressedSerializer(JsonSerializer()),
        CompressedSerializer(TypedSerializer()),
        CompressedSerializer(PickleSerializer()),
    )
}
_OURS = frozenset(_registry)


def may_be_taken(kind: type) -> bool:
    """Return whether a serializer registered by users may take instances of `kind`. One without `classes` may."""
    with _registry_lock:
        others = [each for codec, each in _registry.items() if codec not in _OURS]
    others += _of_other_packages().values()
    return any(
        not isinstance(each, NarrowSerializer)
        or any(issubclass(kind, one) or issubclass(one, kind) for one in each.classes)
        for each in others
    )
