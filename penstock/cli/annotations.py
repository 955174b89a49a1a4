"""Values by annotation: what a text or a piece of JSON means where a parameter is declared as such a type."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import datetime
import enum
import inspect
import json
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from penstock.objects.texts import closest

_MANY = (
    list,
    tuple,
    set,
    frozenset,
    collections.abc.Iterable,
    collections.abc.Collection,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Set,
    collections.abc.MutableSet,
)
_UNKNOWN = (Any, object, inspect.Parameter.empty)


class Unfit(ValueError):
    """A value that does not fit an annotation; the text says why."""


def annotations_of(fn: Callable[..., Any], parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The types of a function's parameters, as far as they can be known: `Any` for the others.

    A parameter without an annotation is taken to be of its default's type.
    """
    found = {}
    for name, parameter in parameters.items():
        annotation = parameter.annotation
        if annotation is inspect.Parameter.empty:
            plain = isinstance(parameter.default, bool | int | float | str | list | tuple | enum.Enum)
            annotation = type(parameter.default) if plain else Any
        # One by one: a name that only type checkers see must not hide what the others say.
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            annotation = typing.get_type_hints(holder, getattr(fn, "__globals__", {}), include_extras=True)[name]
        except Exception:  # noqa: BLE001 (evaluates the user's annotation, which may raise anything)
            annotation = Any
        many = parameter.kind is inspect.Parameter.VAR_POSITIONAL
        found[name] = list[annotation] if many else annotation  # type: ignore[valid-type] # built at run time
    return found


def is_flag(annotation: Any) -> bool:
    """Whether the parameter is a bool, so that its option stands alone."""
    return _members(annotation) == [bool]


def from_texts(texts: Sequence[str], annotation: Any) -> Any:
    """The value that the texts given for one parameter mean. Raises `Unfit`."""
    many = [member for member in _members(annotation) if _origin(member) in _MANY]
    if many:
        if len(texts) == 1 and texts[0].lstrip().startswith("["):
            return from_json(_json(texts[0]), annotation)
        kinds = _kinds_of_items(many[0], len(texts))
        return from_json([_raw(text, kind) for text, kind in zip(texts, kinds, strict=True)], annotation)
    if len(texts) > 1:
        raise Unfit(f"it is given {len(texts)} times but takes one value")
    return _from_text(texts[0], annotation)


def _from_text(text: str, annotation: Any) -> Any:
    problems = []
    # A text fits `str` whatever it says, so that is tried last.
    for member in sorted(_members(annotation), key=lambda member: member is str):
        try:
            return from_json(_raw(text, member), member)
        except Unfit as problem:
            problems.append(str(problem))
    if _optional(annotation) and text in ("null", "None"):
        return None
    raise Unfit("; ".join(problems))


def _raw(text: str, annotation: Any) -> Any:
    """The text as `from_json` takes it: parsed as JSON where only that can say what is meant."""
    if annotation in _UNKNOWN:
        try:
            return json.loads(text)
        except ValueError:
            return text
    if _is_object(annotation) or _origin(annotation) in _MANY:
        return _json(text)
    if _is_choice(annotation):
        named = dict(_choices(annotation))
        return named[text] if text in named else _chosen(text, annotation)
    if isinstance(annotation, type) and (known := _TIMES.get(annotation)) is not None:
        read, such_as = known
        try:
            return read(text)
        except ValueError:
            raise Unfit(f"it is not {such_as}") from None
    return text


def from_json(value: Any, annotation: Any) -> Any:
    """The value that a piece of JSON means. Raises `Unfit`."""
    if annotation in _UNKNOWN:
        return value
    if _is_choice(annotation):
        return _chosen(value, annotation)
    try:
        return msgspec.convert(value, _known(annotation), strict=False, dec_hook=_convert_other)
    except (msgspec.ValidationError, ValueError) as error:
        text = str(error)
        for said, meant in _MEANT.items():
            text = text.replace(said, meant)
        raise Unfit(text) from error
    except TypeError as error:
        raise Unfit(f"this type cannot be given on the command line ({error})") from error


_MEANT = {"Expected `int`, got `str`": "it is not a whole number", "Expected `float`, got `str`": "it is not a number"}
"""What msgspec says of texts, which all options are at first."""


def _convert_other(kind: Any, value: Any) -> Any:
    """What msgspec does not know itself."""
    validate = getattr(kind, "model_validate", None)
    if validate is not None:  # a pydantic model
        return validate(value)
    if kind is object:
        return value
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    if isinstance(kind, type) and issubclass(kind, os.PathLike) and isinstance(value, str):
        return kind(value)  # type: ignore[call-arg] # paths are made from text
    raise Unfit(f"a {getattr(kind, '__qualname__', kind)} cannot be given on the command line")


# -- choices: enums and literals --------------------------------------------------------------------------------------


def _is_choice(annotation: Any) -> bool:
    kind = _bare(annotation)
    return typing.get_origin(kind) is typing.Literal or (isinstance(kind, type) and issubclass(kind, enum.Enum))


def _choices(annotation: Any) -> list[tuple[str, Any]]:
    """What can be written for an enum or a Literal, and what it stands for."""
    kind = _bare(annotation)
    if typing.get_origin(kind) is typing.Literal:
        return [(each.name if isinstance(each, enum.Enum) else str(each), each) for each in typing.get_args(kind)]
    return list(kind.__members__.items())


def _chosen(value: Any, annotation: Any) -> Any:
    """The choice that a text or a piece of JSON means. Raises `Unfit`, which lists all of them."""
    choices = [(text, each, each.value if isinstance(each, enum.Enum) else each) for text, each in _choices(annotation)]
    for _, each, inner in choices:
        if value is each or (type(value) is type(inner) and value == inner):
            return each
    for text, each, inner in choices:
        if type(value) is str and value in (text, str(inner), json.dumps(inner) if type(inner) is bool else text):
            return each
    kind = _bare(annotation)
    if isinstance(kind, type):
        with contextlib.suppress(Exception):  # the enum may know more, in code of the user's that may raise anything
            return kind(value)
    texts = [text for text, _, _ in choices]
    close = closest(value, texts) if type(value) is str else None
    raise Unfit(f"it is none of {', '.join(texts)}" + (f"; did you mean {close}?" if close else ""))


_TIMES: dict[Any, tuple[Callable[[str], Any], str]] = {
    datetime.date: (datetime.date.fromisoformat, "a date such as 2026-11-28"),
    datetime.datetime: (
        datetime.datetime.fromisoformat,
        "a time such as 2026-11-28T17:30 or 2026-11-28T17:30+01:00",
    ),
    datetime.time: (datetime.time.fromisoformat, "a time such as 17:30"),
}


def described(annotation: Any) -> str:
    """The annotation for people: the choices of enums and literals, else as it is written in code."""
    members = _members(annotation)
    if not any(map(_is_choice, members)):
        items = typing.get_args(_bare(annotation))
        if _origin(annotation) in _MANY and any(map(_is_choice, items)):
            return f"several of {described(items[0])}"
        return inspect.formatannotation(annotation)
    shown = ["|".join(dict(_choices(m))) if _is_choice(m) else inspect.formatannotation(m) for m in members]
    return " | ".join([*shown, "None"] if _optional(annotation) else shown)


# -- looking at annotations -------------------------------------------------------------------------------------------


def _bare(annotation: Any) -> Any:
    """The annotation without `Annotated[...]` around it."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation


def _origin(annotation: Any) -> Any:
    bare = _bare(annotation)
    return typing.get_origin(bare) or bare


def _kinds_of_items(container: Any, count: int) -> Sequence[Any]:
    """The annotation of each of `count` items. Raises `Unfit` if that is not how many there are."""
    items = typing.get_args(_bare(container))
    if _origin(container) is not tuple or not items or Ellipsis in items:
        return [items[0] if items else Any] * count
    if len(items) != count:
        raise Unfit(f"expected {len(items)} values, got {count}")
    return items


def _members(annotation: Any) -> list[Any]:
    """The types of a union without None; the annotation itself if it is none."""
    bare = _bare(annotation)
    if typing.get_origin(bare) in (typing.Union, types.UnionType):
        return [member for member in typing.get_args(bare) if member is not type(None)]
    return [annotation]


def _optional(annotation: Any) -> bool:
    return type(None) in typing.get_args(_bare(annotation))


def _is_object(annotation: Any) -> bool:
    """Whether values of this type are JSON objects."""
    origin = _origin(annotation)
    if not isinstance(origin, type):
        return False
    if issubclass(origin, msgspec.Struct | collections.abc.Mapping) or typing.is_typeddict(origin):
        return True
    return dataclasses.is_dataclass(origin) or hasattr(origin, "model_validate")


def _known(annotation: Any) -> Any:
    """The annotation as msgspec knows it: an iterable of any kind is a list."""
    if _origin(annotation) is collections.abc.Iterable:
        items = typing.get_args(_bare(annotation))
        return list[items[0]] if items else list  # type: ignore[valid-type] # built at run time
    return annotation


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Unfit(f"it is not valid JSON: {error}") from error
