"""What classes say of their objects besides attributes: defaults and options of fields, options of the class, slots.

`dataclass`, attrs, pydantic, msgspec, named tuples and generic classes keep these under special names.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from types import FunctionType, MemberDescriptorType
from typing import Any

from penstock.digests.code.made_classes import GENERATED, fields_of_models, is_special
from penstock.digests.names import is_project_module
from penstock.objects.questions import ABSENT, ask
from penstock.objects.texts import kind_name, module_of, package_of

_DATACLASS = {"init": True, "repr": True, "eq": True, "order": False, "unsafe_hash": False, "frozen": False}
"""The options that all versions of Python keep, and their defaults."""
_DATACLASS_FIELD: dict[str, Any] = {
    "init": True, "repr": True, "hash": None, "compare": True, "kw_only": False, "metadata": {},
}  # fmt: skip
_MODEL_FIELD: dict[str, Any] = {
    "init": (True, None), "repr": True, "hash": None, "eq": True, "eq_key": None, "order": (True, False),
    "order_key": None, "kw_only": False, "metadata": ({}, []), "alias": None, "validation_alias": None,
    "serialization_alias": None, "strict": None, "frozen": None, "exclude": None, "discriminator": None,
    "validate_default": None, "on_setattr": None,
}  # fmt: skip
"""Options of fields of attrs and pydantic, and their defaults: one, or a tuple of several."""
_STRUCT: dict[str, Any] = {
    "frozen": False, "eq": True, "order": False, "array_like": False, "tag": None, "tag_field": None,
    "omit_defaults": False, "repr_omit_defaults": False, "forbid_unknown_fields": False, "cache_hash": False,
    "dict": False, "weakref": False,
}  # fmt: skip
_OF_ATTRS = ("__eq__", "__hash__", "__init__", "__lt__", "__repr__", "__str__")
"""Methods that attrs generates if its options say so."""


def options_of(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield by name what a class keeps of its fields and of itself. Options that have their defaults are left out."""
    held = vars(cls)
    yield from _of_fields(cls)
    yield from _of_struct(cls)
    yield from _of_dataclass(held)
    if "__attrs_attrs__" in held:
        made = [name for name in _OF_ATTRS if name in held and _is_of_attrs(held[name])]
        says = [name for name, item in (("__hash__", None), ("__setattr__", "_frozen_setattrs"))
                if name in held and ask(held[name], "__name__") == item]  # fmt: skip
        yield "<attrs>", [made, says]
        for name, (_, hook) in sorted(_hooks(held.get("__setattr__")).items()):
            yield f"<on_setattr of {name}>", hook
    if issubclass(cls, tuple) and "_fields" in held:
        yield "<fields>", held["_fields"]
        yield from ((f"<default of {name}>", value) for name, value in held.get("_field_defaults", {}).items())
    for name in ("__required_keys__", "__readonly_keys__"):
        if name in held:
            yield f"<{name}>", held[name]
    yield from ((f"<annotation of {name}>", hint) for name, hint in _annotations(cls).items())
    yield from _of_class(cls)


def is_generated(name: str, item: FunctionType, held: Mapping[str, Any]) -> bool:
    """Return whether a method of a class is one that dataclasses or attrs generated from its fields."""
    if item.__code__.co_filename.startswith(GENERATED):
        return True
    return is_special(name) and "__attrs_attrs__" in held and _is_of_attrs(item)


def _is_of_attrs(item: Any) -> bool:
    home = str(item.__globals__.get("__name__")) if isinstance(item, FunctionType) else ""
    return home.partition(".")[0] == "attr" or (bool(home) and item.__code__.co_filename.startswith(GENERATED))


def _hooks(setter: Any) -> dict[str, Any]:
    """Return by field the attribute of attrs, and the function that it calls when the field is set."""
    if not _is_of_attrs(setter) or "sa_attrs" not in setter.__code__.co_freevars:
        return {}
    found = setter.__closure__[setter.__code__.co_freevars.index("sa_attrs")].cell_contents
    return found if isinstance(found, dict) else {}


def _of_fields(cls: type) -> Iterator[tuple[str, Any]]:
    fields = vars(cls).get("__dataclass_fields__")
    of_dataclass = list(fields.items()) if isinstance(fields, dict) else []
    if of_dataclass:
        yield "<fields>", [name for name, _ in of_dataclass]
    for name, field in [*of_dataclass, *fields_of_models(cls)]:
        for which in ("default", "default_factory", "converter", "validator"):
            if (value := ask(field, which, ABSENT)) is not ABSENT:
                yield f"<{which} of {name}>", _within(value)
    for fields_with, defaults in ((of_dataclass, _DATACLASS_FIELD), (fields_of_models(cls), _MODEL_FIELD)):
        for name, field in fields_with:
            for part, value in _unusual(field, defaults):
                if part != "alias" or value != name.lstrip("_"):  # new releases of attrs set it to this
                    yield f"<{part} of {name}>", value
            if package_of(type(field)) == "pydantic":
                yield f"<type of {name}>", ask(field, "annotation")


def _within(value: Any) -> Any:
    """Return the function in an object of attrs that says how to call it: `Factory`, `Converter`."""
    if package_of(type(value)) != "attr":
        return value
    found = ask(value, "factory", ABSENT)
    return ask(value, "converter", value) if found is ABSENT else found


def _of_struct(cls: Any) -> Iterator[tuple[str, Any]]:
    if (how := ask(cls, "__struct_config__")) is None or not isinstance(fields := ask(cls, "__struct_fields__"), tuple):
        return
    yield "<fields>", fields
    defaults = ask(cls, "__struct_defaults__", ())
    for name, value in zip(fields[len(fields) - len(defaults) :], defaults, strict=True):
        factory = ask(value, "factory") if package_of(type(value)) == "msgspec" else None
        yield f"<default of {name}>", value if factory is None else ["factory", factory]
    if (encoded := ask(cls, "__struct_encode_fields__", fields)) != fields:
        yield "<names>", encoded
    if unusual := _unusual(how, _STRUCT):
        yield "<struct>", unusual


def _of_dataclass(held: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if "__dataclass_params__" not in held:
        return
    if unusual := _unusual(held["__dataclass_params__"], _DATACLASS):
        yield "<dataclass>", unusual
    if "__match_args__" not in held:
        yield "<match_args>", None


def _unusual(options: Any, defaults: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the options that do not have their default, or one of several."""
    found = []
    for name, usual in defaults.items():
        if (value := ask(options, name, ABSENT)) is ABSENT:
            continue
        value = dict(value) if isinstance(value, Mapping) else value
        if not any(
            type(value) is type(each) and value == each for each in (usual if type(usual) is tuple else [usual])
        ):
            found.append((name, value))
    return found


def _annotations(cls: type) -> dict[str, Any]:
    try:
        return inspect.get_annotations(cls)
    except Exception:  # noqa: BLE001 (Python 3.14 runs them here, and they may name what does not exist yet)
        return {}


def _of_class(cls: type) -> Iterator[tuple[str, Any]]:
    held = vars(cls)
    for number, base in enumerate(held.get("__orig_bases__", ())):
        if not isinstance(base, type | FunctionType):
            yield f"<generic base {number}>", base
    if "__slots__" in held:
        slots = {name for name, item in held.items() if type(item) is MemberDescriptorType and not is_special(name)}
        yield "<slots>", sorted(slots | {"__dict__"}.intersection(held))
    if is_project_module(module_of(type(cls))):
        yield "<metaclass>", type(cls)
    if cls.__name__ != kind_name(cls).rpartition(".")[2]:
        yield "<name>", cls.__name__
