"""Typed JSON of objects: enums, named tuples, dataclasses, attrs classes, msgspec structs and pydantic models.

An object consists of its class, by importable name, and its state: the contents of its `__dict__` and slots. It is
restored without its constructor, so that no validator or `__post_init__` modifies it. (msgspec structs can only be
created by their constructor; a trial shows whether that changes anything.)
"""

from __future__ import annotations

import enum
import functools
import types
import weakref
from collections.abc import Iterable
from typing import Any

import msgspec

from penstock.errors import CodecRefused, SerializationError
from penstock.storage.formats.classes import class_name, find_class
from penstock.storage.formats.typed.plain import FORMS as PLAIN
from penstock.storage.formats.typed.walk import Decoder, Encoder, Form, Maker


def form_of(kind: type) -> Form | None:
    """Return the form of a class's instances, or None."""
    if issubclass(kind, type):
        return _class_form
    if issubclass(kind, enum.Enum):
        return _enum
    if issubclass(kind, msgspec.Struct):
        return lambda value, encoder: encoder.once(value, _struct)
    found = _family(kind)
    if found == "namedtuple":
        return _namedtuple
    if found == "pydantic":
        return lambda value, encoder: encoder.once(value, _pydantic)
    if found:
        return lambda value, encoder: encoder.once(value, functools.partial(_object, f"${found}"))
    return None


def _family(kind: type) -> str:
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return "namedtuple"
    marks = (
        ("pydantic", "__pydantic_private__"),
        ("dataclass", "__dataclass_fields__"),
        ("attrs", "__attrs_attrs__"),
    )
    found = next((family for family, mark in marks if hasattr(kind, mark)), "")
    return found if found and _plainly_made(kind) else ""


def _plainly_made(kind: type) -> bool:
    """Return whether instances apparently consist of their `__dict__` and slots only."""
    if hasattr(kind, "__del__"):
        return False  # an attacker who can write records could call it with any state
    try:
        object.__new__(kind)
    except TypeError:
        return False  # it extends a built-in type, whose content is not in the `__dict__`
    return not any({"__reduce__", "__reduce_ex__"} & vars(base).keys() for base in kind.__mro__[:-1])


# -- classes


_DATA_TYPES: dict[str, type] = {
    f"{kind.__module__}:{kind.__qualname__}": kind
    for kind in (object, bool, int, float, complex, str, *PLAIN)
    if kind.__module__ in ("builtins", "collections", "datetime", "decimal", "fractions", "uuid")
}
"""Classes that only hold data, so that calling one is harmless."""
_NAMES = {kind: name for name, kind in _DATA_TYPES.items()}


def _class_form(value: type, encoder: Encoder) -> dict[str, Any]:
    return {"$type": _NAMES.get(value) or _name(value, encoder, value)}


def _name(kind: type, encoder: Encoder, leaf: Any) -> str:
    encoder.unproven = True
    name, because = encoder.shape(kind, _named_shape)
    if because:
        raise encoder.unkept(leaf, because)
    return str(name)


def _named_shape(kind: type) -> tuple[str, str]:
    """Return a class's name, and the reason if its instances have no form."""
    name = class_name(kind)
    if not name:
        return "", "its class cannot be imported by name"
    return name, "" if _is_data(kind) else "it is a class that may run any code when called"


def _is_data(kind: type) -> bool:
    return issubclass(kind, enum.Enum | msgspec.Struct) or bool(_family(kind)) or _is_numpy(kind)


def _is_numpy(kind: type) -> bool:
    return kind.__module__ == "numpy" and any(base.__name__ == "generic" for base in kind.__mro__)


def _find(name: str, family: str = "") -> Any:
    """Return the class that the data name, if it is of the given family."""
    found = _DATA_TYPES.get(name) or find_class(name)
    fits = _family(found) == family if family else name in _DATA_TYPES or _is_data(found)
    if not fits:
        raise CodecRefused(
            f"{name} is not a class of {family or 'data'}", because="a stored result requires such a class"
        )
    return found


# -- enums and named tuples


def _enum(value: Any, encoder: Encoder) -> dict[str, Any]:
    name = _name(type(value), encoder, value)
    if isinstance(value, enum.Flag):
        return {"$flag": name, "value": value.value}
    return {"$enum": name, "name": value.name}


def _make_enum(node: Any, _: Decoder) -> Any:
    found = find_class(node["$enum"])
    if not issubclass(found, enum.Enum):
        raise CodecRefused(f"{node['$enum']} is not an enum", because="a stored result requires one")
    return found.__members__[node["name"]]


def _make_flag(node: Any, _: Decoder) -> Any:
    found = find_class(node["$flag"])
    if not issubclass(found, enum.Flag):
        raise CodecRefused(f"{node['$flag']} is not an enum of flags", because="a stored result requires one")
    return found(int(node["value"]))


def _namedtuple(value: Any, encoder: Encoder) -> dict[str, Any]:
    name = _name(type(value), encoder, value)
    items = zip(value._fields, tuple.__iter__(value), strict=True)
    node = {"$namedtuple": name, "fields": {key: encoder.at(("fields", key), f".{key}", item) for key, item in items}}
    return node | _attributes(getattr(value, "__dict__", {}), encoder)


def _make_namedtuple(node: Any, decoder: Decoder) -> Any:
    name = node["$namedtuple"]
    kind = decoder.once((name, "namedtuple"), lambda: _find(name, "namedtuple"))
    fields = node["fields"]
    _check_fields(node["$namedtuple"], fields, kind._fields)
    made = tuple.__new__(kind, [decoder.value(item) for item in fields.values()])
    _restore(made, _made_attributes(node, decoder))
    return made


# -- objects


def state_of(value: Any) -> dict[str, Any]:
    """Return the contents of an object's `__dict__` and slots, without cached properties."""
    kind = type(value)
    held = getattr(value, "__dict__", None) or {}
    state = {
        name: item
        for name, item in held.items()
        if not isinstance(getattr(kind, name, None), functools.cached_property)
    }
    for name, slot in slots_of(kind).items():
        try:
            state[name] = slot.__get__(value, kind)
        except AttributeError:
            continue  # never set
    return state


def slots_of(kind: type) -> dict[str, Any]:
    """Return the slots of a class and its bases, by name; not those of paths, which hold how the text was given."""
    known = _SLOTS.get(kind)
    if known is None:
        known = _SLOTS[kind] = {
            name: slot
            for base in reversed(kind.__mro__)
            if base.__module__.partition(".")[0] != "pathlib"
            for name, slot in vars(base).items()
            if isinstance(slot, types.MemberDescriptorType)
        }
    return known


_SLOTS: weakref.WeakKeyDictionary[type, dict[str, Any]] = weakref.WeakKeyDictionary()
"""A cache: slots never change."""


def _field_names(kind: Any) -> list[str]:
    if hasattr(kind, "__dataclass_fields__"):
        return [name for name, field in kind.__dataclass_fields__.items() if field._field_type.name == "_FIELD"]
    return [field.name for field in kind.__attrs_attrs__]


def _object(tag: str, value: Any, encoder: Encoder) -> dict[str, Any]:
    kind = type(value)
    name, state = _name(kind, encoder, value), state_of(value)
    if "_attrs_cached_hash" in state:
        raise encoder.unkept(value, "it stores its hash, which differs between processes")
    fields = {key: state.pop(key) for key in _field_names(kind) if key in state}
    node = {tag: name, "fields": {k: encoder.at(("fields", k), f".{k}", v) for k, v in fields.items()}}
    absent = [key for key in _field_names(kind) if key not in fields]
    return node | ({"absent": absent} if absent else {}) | _attributes(state, encoder)


def _make_object(tag: str) -> Maker:
    def maker(node: Any, decoder: Decoder) -> Any:
        kind = decoder.once((node[tag], tag), lambda: _find(node[tag], tag[1:]))
        fields = {name: decoder.value(item) for name, item in node["fields"].items()}
        _check_fields(node[tag], (*fields, *node.get("absent", ())), _field_names(kind))
        made = object.__new__(kind)
        _restore(made, fields | _made_attributes(node, decoder))
        return made

    return maker


def _attributes(state: dict[str, Any], encoder: Encoder) -> dict[str, Any]:
    """Encode the attributes of an object other than its fields."""
    if not state:
        return {}
    return {"attributes": {name: encoder.at(("attributes", name), f".{name}", item) for name, item in state.items()}}


def _made_attributes(node: Any, decoder: Decoder) -> dict[str, Any]:
    return {name: decoder.value(item) for name, item in node.get("attributes", {}).items()}


def _restore(made: Any, state: dict[str, Any]) -> None:
    slots = slots_of(type(made))
    for name, item in state.items():
        if name in slots:
            slots[name].__set__(made, item)
        else:
            made.__dict__[name] = item


def _check_fields(name: str, stored: Iterable[str], declared: Iterable[str]) -> None:
    if set(stored) != set(declared):
        raise SerializationError(
            f"the fields of {name} have changed since this result was stored",
            because=f"the stored fields are {', '.join(stored)}; the present ones are {', '.join(declared)}",
            hint="refresh the result",
        )


def _struct(value: Any, encoder: Encoder) -> dict[str, Any]:
    kind = type(value)
    name = _name(kind, encoder, value)
    fields = {key: encoder.at(("fields", key), f".{key}", getattr(value, key)) for key in kind.__struct_fields__}
    return {"$struct": name, "fields": fields} | _attributes(getattr(value, "__dict__", {}), encoder)


def _make_struct(node: Any, decoder: Decoder) -> Any:
    kind = find_class(node["$struct"])
    if not issubclass(kind, msgspec.Struct):
        raise CodecRefused(f"{node['$struct']} is not a msgspec struct", because="a stored result requires one")
    fields = {name: decoder.value(item) for name, item in node["fields"].items()}
    _check_fields(node["$struct"], fields, kind.__struct_fields__)
    made = kind(**fields)
    _restore(made, _made_attributes(node, decoder))
    return made


_MODEL_STATE = ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")


def _pydantic(value: Any, encoder: Encoder) -> dict[str, Any]:
    kind = type(value)
    name, state = _name(kind, encoder, value), state_of(value)
    unset = [part for part in _MODEL_STATE if part not in state]
    was_set, extra, private = (state.pop(part, None) for part in _MODEL_STATE)
    known = kind.__pydantic_fields__
    node = {
        "$pydantic": name,
        "fields": {k: encoder.at(("fields", k), f".{k}", state.pop(k)) for k in known if k in state},
        "set": sorted(was_set or ()),
    }
    absent = [key for key in known if key not in node["fields"]]
    node |= ({"absent": absent} if absent else {}) | ({"unset": unset} if unset else {})
    for part, held in (("extra", extra), ("private", private)):
        if held is not None:
            node[part] = {k: encoder.at((part, k), f".{k}", v) for k, v in held.items()}
    return node | _attributes(state, encoder)


def _make_pydantic(node: Any, decoder: Decoder) -> Any:
    kind = _find(node["$pydantic"], "pydantic")
    fields = {name: decoder.value(item) for name, item in node["fields"].items()}
    _check_fields(node["$pydantic"], (*fields, *node.get("absent", ())), kind.__pydantic_fields__)
    made = kind.__new__(kind)
    parts = {
        part: {name: decoder.value(item) for name, item in node[part].items()} if part in node else None
        for part in ("extra", "private")
    }
    state = (set(node["set"]), parts["extra"], parts["private"])
    for name, held in (("__dict__", fields), *zip(_MODEL_STATE, state, strict=True)):
        if name not in node.get("unset", ()):
            object.__setattr__(made, name, held)
    _restore(made, _made_attributes(node, decoder))
    return made


MAKERS: dict[str, Maker] = {
    "$type": lambda node, _: _find(node["$type"]),
    "$enum": _make_enum,
    "$flag": _make_flag,
    "$namedtuple": _make_namedtuple,
    "$dataclass": _make_object("$dataclass"),
    "$attrs": _make_object("$attrs"),
    "$struct": _make_struct,
    "$pydantic": _make_pydantic,
}
