"""Classes that a function makes: what each call of it has put into them, which their statement does not tell."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from types import FunctionType
from typing import Any, TypeGuard

from penstock.digests.code.made_classes import (
    GENERATED,
    fields_of_models,
    is_machinery,
    is_made,
    is_special,
    parts,
    plain_member,
)
from penstock.digests.names import is_project_module
from penstock.objects.questions import ABSENT, ask
from penstock.objects.texts import kind_name, package_of


def is_local(cls: object) -> TypeGuard[type]:
    """Return whether a value is a class whose statement is inside a function, so that its name stands for many."""
    return isinstance(cls, type) and "<locals>" in kind_name(cls) and not is_made(cls)


def held_by_class(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield by name what a class holds: its bases, the functions of its methods, its attributes and defaults of fields.

    What packages generate from fields is left out, and what Python makes.
    """
    yield from ((f"<base {number}>", base) for number, base in enumerate(cls.__bases__))
    of_enum, generated = isinstance(cls, enum.EnumType), "__dataclass_fields__" in vars(cls) or issubclass(cls, tuple)
    if of_enum:
        yield "<members>", [(name, member.value) for name, member in vars(cls)["_member_map_"].items()]
    for name, item in list(vars(cls).items()):
        if is_machinery(name, item, generated=generated) or (of_enum and isinstance(item, cls)):
            continue
        for part in parts(item):
            if isinstance(part, FunctionType):
                home = str(part.__globals__.get("__name__"))
                of_python = of_enum and is_special(name) and not is_project_module(home)
                if not (of_python or part.__code__.co_filename.startswith(GENERATED)):
                    yield name, part
            elif not (is_special(name) or (of_enum and name.startswith("_"))):
                yield name, plain_member(part)
    yield from _defaults(cls)


def _defaults(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield what dataclasses, attrs, pydantic and msgspec keep of fields, which are no attributes of the class."""
    held = vars(cls)
    fields = held.get("__dataclass_fields__")
    for name, field in [*(fields.items() if isinstance(fields, dict) else ()), *fields_of_models(cls)]:
        for which in ("default", "default_factory", "converter", "validator"):
            if (value := ask(field, which, ABSENT)) is not ABSENT:
                made = ask(value, "factory", value) if package_of(type(value)) == "attr" else value
                yield f"<{which} of {name}>", made
    yield "<defaults>", held.get("__struct_defaults__", ())
