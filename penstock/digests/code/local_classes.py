"""Classes that a function makes: what each call of it has put into them, which their statement does not tell."""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from penstock.digests.code.class_options import is_generated, options_of
from penstock.digests.code.made_classes import is_machinery, is_special, parts, plain_member
from penstock.digests.names import is_project_module
from penstock.objects.texts import module_of


def held_by_class(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield by name what a class holds: its bases, the functions of its methods, its attributes and options.

    What packages generate from fields is left out, and what Python makes.
    """
    yield from ((f"<base {number}>", base) for number, base in enumerate(cls.__bases__))
    of_enum, generated = isinstance(cls, enum.EnumType), "__dataclass_fields__" in vars(cls) or issubclass(cls, tuple)
    if of_enum:
        yield "<members>", [(name, member.value) for name, member in vars(cls)["_member_map_"].items()]
    for name, item in list(vars(cls).items()):
        if is_special(name) and _is_operator(item):
            yield name, parts(item)
        if is_machinery(name, item, generated=generated) or (of_enum and isinstance(item, cls)):
            continue
        for part in parts(item):
            if isinstance(part, FunctionType):
                home = str(part.__globals__.get("__name__"))
                of_python = of_enum and is_special(name) and not is_project_module(home)
                if not (of_python or is_generated(name, part, vars(cls))):
                    yield name, part
            elif not (is_special(name) or (of_enum and name.startswith("_"))):
                yield name, plain_member(part)
    yield from options_of(cls)


def _is_operator(item: Any) -> bool:
    """Return whether an object that is no function may stand for a special method: `__call__ = partialmethod(…)`."""
    return isinstance(item, _CALLED) or is_project_module(module_of(type(item)))


_CALLED = (functools.partial, functools.partialmethod, functools.singledispatchmethod, MethodType)
