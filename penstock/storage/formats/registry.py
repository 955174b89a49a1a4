"""Which serializer a value gets, and which one reads a codec."""

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
"""By codec; what was registered last is asked first. Shared by the process, as the types it is about are."""
_registry_lock = threading.Lock()


def _are_classes(classes: Any) -> bool:
    return isinstance(classes, tuple) and all(isinstance(each, type) for each in classes)


def register_serializer(serializer: Serializer) -> None:
    """Use `serializer` for the values it `can` write, before those registered earlier, and to read its codec.

    Workers need the same registration: do it where the task's module is imported. Raises `ConfigurationError` if the
    codec is another serializer's, or its `classes` are no classes.
    """
    if isinstance(serializer, NarrowSerializer) and not _are_classes(serializer.classes):
        raise ConfigurationError(
            f"the classes of the serializer {serializer.name!r} are no tuple of classes",
            hint="write classes = (MyClass,), or leave it out",
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
    """The serializer for `value`: the wanted one (an instance, a codec, or `parquet`), else the first that can.

    Raises `SerializationError` if the wanted one cannot, and for values that are no values (generators of anything but
    record batches, lazy frames); `ConfigurationError` for an unknown name.
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
            f"no serializer is called {wanted!r}",
            hint=f"one of {known}, or a Serializer instance",
        )
    found = next((found for each in choices if (found := prepared(each, value)) is not None), None)
    return found or _checked(choices[0], value)


def prepared(serializer: Serializer, value: Any) -> Serializer | None:
    """The serializer, if it can write the value: for some of them one that has it encoded already."""
    prepare = getattr(serializer, "prepare", None)
    if prepare is not None:
        found: Serializer | None = prepare(value)
        return found
    return serializer if serializer.can(value) else None


def reader_of(codec: str, *, allow_unsafe: bool) -> Serializer:
    """The serializer that reads `codec`; decided before a byte is parsed. Raises `CodecRefused`."""
    serializer = _found(codec)
    if serializer is None:
        raise CodecRefused(
            f"no serializer reads the codec {codec!r}",
            hint="import the module that registers it, install the package that adds it, or upgrade Penstock",
            codec=codec,
        )
    if not serializer.safe and not allow_unsafe:
        raise CodecRefused(
            f"refused to read a result stored as {codec!r}",
            because="reading it runs code that whoever can write to this store has chosen",
            hint="sign results (docs/security.md), or add ?trusted=true to the store's address if all who can write "
            "there are trusted like your own code",
            codec=codec,
        )
    return serializer


def _reader_of_part(codec: str, allow_unsafe: bool) -> Serializer:
    return reader_of(codec, allow_unsafe=allow_unsafe)


def is_safe(codec: str) -> bool:
    """Whether reading `codec` runs no code that the bytes name; True also for one that nobody reads."""
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
                hint="the package that adds this format has to give it another name",
            )
    return {each.name: each for each in formats}


def _candidates() -> Iterator[Serializer]:
    """What is asked in turn. Formats of other packages come before pickle alone: what other values are stored as does
    not depend on what is installed, and few results pay for looking it up."""
    with _registry_lock:
        *own, pickle = reversed(_registry.values())
    yield from own
    yield from _of_other_packages().values()
    yield pickle


def _checked(serializer: Serializer, value: Any) -> Serializer:
    if not serializer.can(value):
        raise SerializationError(
            f"the serializer {serializer.name!r} does not keep a {type_name(value)} as it is",
            hint="leave out result_serializer to let Penstock choose",
        )
    return serializer


# Asked from the last to the first: pickle takes anything, JSON is by far the most common.
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
# Only on request: what is compressed cannot be read by other tools as it lies, and what models write of themselves is
# not all of them.
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
    """Whether a serializer that somebody has registered may take instances of `kind`: one that does not say of which
    classes its values are may take any."""
    with _registry_lock:
        others = [each for codec, each in _registry.items() if codec not in _OURS]
    others += _of_other_packages().values()
    return any(
        not isinstance(each, NarrowSerializer)
        or any(issubclass(kind, one) or issubclass(one, kind) for one in each.classes)
        for each in others
    )
