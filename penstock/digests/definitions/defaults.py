"""What the syntax of a class does not tell any more: changed defaults of methods, attributes set on enum members."""

from __future__ import annotations

import ast
import enum
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any

from penstock.digests.definitions.assigned import IsProject, says
from penstock.digests.definitions.replaced import Definition, parts_of, unwrapped
from penstock.digests.walk import attributes


def changed_defaults(
    name: str, item: Any, nodes: Sequence[Definition], own: str, is_project: IsProject
) -> Iterator[tuple[str, Any]]:
    """Yield defaults that a method has, but its definition does not state, such as a list that was appended to.

    Defaults whose expressions only running them could tell count as they are stated.
    """
    found = [unwrapped(part, is_project) for _, part in parts_of(item)]
    for function in (each for each in found if type(each) is FunctionType):
        code = function.__code__
        node = next((each for each in nodes if each.name == code.co_name and _spans(each, code.co_firstlineno)), None)
        if node is None:
            continue
        stated, held = _stated(node), _held(function)
        for parameter in sorted({*stated, *held}):
            same = parameter in stated and parameter in held
            if not same or not says(stated[parameter], own, held[parameter], is_project):
                yield f"{name} {parameter}", held.get(parameter)


def _spans(node: Definition, line: int) -> bool:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) <= line <= node.lineno


def _stated(node: Definition) -> dict[str, ast.expr]:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    found = dict(zip([each.arg for each in reversed(positional)], reversed(arguments.defaults), strict=False))
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return found | {each.arg: default for each, default in named if default is not None}


def _held(function: FunctionType) -> dict[str, Any]:
    positional = function.__code__.co_varnames[: function.__code__.co_argcount]
    found = dict(zip(reversed(positional), reversed(function.__defaults__ or ()), strict=False))
    return found | (function.__kwdefaults__ or {})


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
