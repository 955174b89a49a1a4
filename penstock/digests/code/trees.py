"""Normalised syntax trees and their canonical bytes.

Uses its own encoder, because `ast.dump` and the node classes change between minor versions of Python. Excluded are
positions, comments, formatting, docstrings, the decorators and the name of the outermost function, annotations of
parameters, results and local variables, type parameters, and all empty fields.
"""

from __future__ import annotations

import ast
import struct
from collections.abc import Callable
from typing import Any

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
_SKIPPED_FIELDS = frozenset({"ctx", "type_comment", "type_ignores", "type_params"})


def normalise(tree: ast.AST) -> None:
    """Remove from a tree, in place, whatever does not affect the behaviour of the code."""
    stack: list[tuple[ast.AST, bool]] = [(tree, False)]
    while stack:
        node, in_class = stack.pop()
        if isinstance(node, _DOCUMENTED):
            in_class = isinstance(node, ast.ClassDef)
            node.body = _without_docstring(node.body)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        elif isinstance(node, ast.arg):
            setattr(node, _STATED, node.annotation)
            node.annotation = None
        elif isinstance(node, ast.JoinedStr):
            node.values = _merged(node.values)
        elif isinstance(node, ast.FormattedValue) and isinstance(node.format_spec, ast.JoinedStr):
            node.format_spec.values = _merged(node.format_spec.values)
            node.format_spec = node.format_spec if node.format_spec.values else None
        if not in_class:
            for name in _BLOCKS:
                block = getattr(node, name, None)
                if isinstance(block, list):
                    setattr(node, name, _without_annotations(block))
        stack.extend((child, in_class) for child in ast.iter_child_nodes(node))


_STATED, _FOUND = "stated_annotation", "found_annotations"
"""Attributes that are no fields, so that they are not part of the tree."""


def annotations_in(tree: ast.AST) -> tuple[ast.expr, ...]:
    """Return the annotations of all parameters in a normalised tree, which itself does not contain them."""
    found: tuple[ast.expr, ...] | None = getattr(tree, _FOUND, None)
    if found is None:
        stated = (getattr(node, _STATED, None) for node in ast.walk(tree))
        found = tuple(annotation for annotation in stated if annotation is not None)
        setattr(tree, _FOUND, found)
    return found


_BLOCKS = ("body", "orelse", "finalbody")


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        body = body[1:]
    return [statement for statement in body if not isinstance(statement, ast.Pass)]


def _without_annotations(block: list[ast.stmt]) -> list[ast.stmt]:
    """Turn `x: int = 5` into `x = 5` and drop `x: int`. Annotations in class bodies are data (fields) and stay."""
    plain: list[ast.stmt] = []
    for statement in block:
        if not isinstance(statement, ast.AnnAssign):
            plain.append(statement)
        elif statement.value is not None:
            plain.append(ast.Assign(targets=[statement.target], value=statement.value))
    return plain


def _merged(values: list[ast.expr]) -> list[ast.expr]:
    """Merge adjacent literals of an f-string, which versions of Python split differently."""
    merged: list[ast.expr] = []
    for value in values:
        last = merged[-1] if merged else None
        if not isinstance(value, ast.Constant):
            merged.append(value)
        elif isinstance(last, ast.Constant):
            merged[-1] = ast.Constant(f"{last.value!s}{value.value!s}")
        elif value.value:
            merged.append(value)
    return merged


# -- encoding --------------------------------------------------------------------------------------------------------


def encode_tree(root: ast.AST) -> bytes:
    """Return the canonical bytes of a normalised tree: `(`, class, name and value of each non-empty field, `)`.

    The name and decorators of `root` itself are excluded. Iterative, because a sum of a thousand terms is a tree of a
    thousand levels.
    """
    out: list[bytes] = []
    stack: list[Any] = [root]
    while stack:
        item = stack.pop()
        if type(item) is bytes:
            out.append(item)
        elif isinstance(item, ast.Constant):
            out.append(b"(Constant\0" + _encode_constant(item.value) + b")")
        elif isinstance(item, ast.AST):
            out.append(b"(" + type(item).__name__.encode() + b"\0")
            stack.append(b")")
            for name, value in sorted(ast.iter_fields(item), reverse=True):
                if item is root and name in _OWN_FIELDS and isinstance(root, DEFINITIONS):
                    continue
                if value is not None and value != [] and name not in _SKIPPED_FIELDS:
                    stack += (value, name.encode() + b"\0")
        elif isinstance(item, list):
            out.append(b"[")
            stack.append(b"]")
            stack.extend(b"-" if entry is None else entry for entry in reversed(item))
        else:
            out.append(_encode_constant(item))
    return b"".join(out)


_OWN_FIELDS = frozenset({"name", "decorator_list"})


def _encode_constant(value: object) -> bytes:
    payload = _CONSTANTS[type(value)](value)
    return type(value).__name__.encode() + b":%d:" % len(payload) + payload


def _encode_float(value: float) -> bytes:
    return struct.pack(">d", value)


_CONSTANTS: dict[type, Callable[[Any], bytes]] = {
    str: lambda value: value.encode("utf-8", "surrogatepass"),
    bytes: lambda value: value,
    int: lambda value: b"%x" % value,
    bool: lambda value: b"1" if value else b"0",
    float: _encode_float,
    complex: lambda value: _encode_float(value.real) + _encode_float(value.imag),
    type(None): lambda _: b"",
    type(...): lambda _: b"",
}
