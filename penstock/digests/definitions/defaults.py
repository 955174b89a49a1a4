"""What the syntax of a class does not tell any more: changed defaults of methods, attributes set on enum members."""

from __future__ import annotations

import ast
import enum
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any

from penstock.digests.definitions.assigned import IsProject, says
from penstock.digests.definitions.mentioned import UNBOUND
from penstock.digests.definitions.replaced import Definition, definition_of, parts_of, unwrapped
from penstock.digests.walk import attributes
from penstock.objects.records import defaults_of


def changed_defaults(
    name: str, item: Any, nodes: Sequence[Definition], own: str, is_project: IsProject
) -> Iterator[tuple[str, Any]]:
    """Yield defaults that a method has, but its definition does not state, such as a list that was appended to.

    Defaults whose expressions only running them could tell count as they are stated.
    """
    found = [unwrapped(part, is_project) for _, part in parts_of(item)]
    for function in (each for each in found if type(each) is FunctionType):
        if (node := definition_of(function, nodes)) is None:
            continue
        stated, held = _stated(node), defaults_of(function)
        for parameter in sorted({*stated, *held}):
            same = parameter in stated and parameter in held
            if not same or not says(stated[parameter], own, held[parameter], is_project):
                yield f"{name} {parameter}", held.get(parameter, UNBOUND)


def _stated(node: Definition) -> dict[str, ast.expr]:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    found = dict(zip([each.arg for each in reversed(positional)], reversed(arguments.defaults), strict=False))
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return found | {each.arg: default for each, default in named if default is not None}


def set_on_members(cls: type, tree: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of an enum's members that no code of its class assigns."""
    if not isinstance(cls, enum.EnumType):
        return
    stores = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))
    assigned = {node.attr for node in stores}
    members: dict[str, Any] = dict(cls.__members__)
    for name, member in members.items():
        for attribute, value in attributes(member).items():
            if not attribute.startswith("_") and attribute not in assigned:
                yield f"{name}.{attribute}", value
