"""The normalised syntax tree of a function: found in its source, stripped of what does not matter, and encoded.

The tree is walked by our own encoder, because `ast.dump` and the node classes themselves change between Python
minors. What stays out: positions, comments, formatting, docstrings, the decorators and the name of the outermost
function, annotations of parameters, results and local variables, type parameters, and every empty field.
"""

from __future__ import annotations

import ast
import linecache
import os
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import SourceFileLoader
from types import CodeType, FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from blake3 import blake3

from penstock.errors import DigestError

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
_SKIPPED_FIELDS = frozenset({"ctx", "type_comment", "type_ignores", "type_params"})
_NO_SOURCE_HINT = (
    "define it in a file, pass it by name, or leave the code out of the key and use CacheKey('v1') instead"
)


def function_syntax(fn: FunctionType) -> ast.AST:
    """The syntax tree of `fn` itself, as the parser gave it.

    Raises DigestError if there is no source, if the source is no longer the one that runs, or if one of several
    lambdas cannot be told from its neighbours.
    """
    return _known(fn).tree


def function_code_digest(fn: FunctionType) -> bytes:
    """20 bytes over the normalised syntax tree of `fn`; the same on every supported Python. Raises as
    `function_syntax`."""
    return _known(fn).digest


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    tree: ast.AST
    digest: bytes


# Pure memos. They also keep what was true of code whose file was edited after it was loaded and digested.
_functions: dict[tuple[str, CodeType], _Known] = {}
_classes: WeakKeyDictionary[type, ast.ClassDef] = WeakKeyDictionary()
_MAX_REMEMBERED = 10_000


def _known(fn: FunctionType) -> _Known:
    key = (fn.__code__.co_filename, fn.__code__)
    known = _functions.get(key)
    if known is None:
        tree = _find_function(fn)
        known = _Known(tree, blake3(b"syntax\0" + encode_tree(tree)).digest(20))
        if len(_functions) >= _MAX_REMEMBERED:
            _functions.clear()
        _functions[key] = known
    return known


def class_syntax(cls: type) -> ast.ClassDef:
    """The syntax tree of a class statement.

    Raises DigestError if it cannot be found, or if the source of one of its methods is no longer the one that runs.
    (A class without methods leaves nothing to compare with.)
    """
    known = _classes.get(cls)
    if known is None:
        known = _classes[cls] = _find_class(cls)
    return known


def module_syntax(module: Any) -> ast.Module:
    """The syntax tree of a whole module. Raises DigestError if it has no source."""
    text = _source_text(getattr(module, "__file__", None) or "", vars(module))
    if not text:
        raise DigestError(f"the source of module {module.__name__!r} is not available", where=module.__name__,
                          hint="use the names it holds instead of the module")  # fmt: skip
    return _parse(text)


# -- finding ---------------------------------------------------------------------------------------------------------


def _find_function(fn: FunctionType) -> ast.AST:
    code = fn.__code__
    where = f"{fn.__module__}.{fn.__qualname__} ({os.path.basename(code.co_filename)}, line {code.co_firstlineno})"
    text = _source_text(code.co_filename, fn.__globals__)
    if not text:
        raise DigestError(
            f"the source of {fn.__qualname__!r} is not available", where=where,
            because="it was defined in a string or an interactive prompt", hint=_NO_SOURCE_HINT,
        )  # fmt: skip
    _check_loaded(text, fn, where)
    found = _candidates(text, code)
    if len({encode_tree(node) for node in found}) == 1:
        return found[0]
    raise DigestError(
        f"the source of {fn.__qualname__!r} cannot be told from its neighbours" if found
        else f"the source of {fn.__qualname__!r} is not where its code says", where=where,
        because=f"{len(found)} definitions fit", hint="give it a line of its own, or define it with `def`",
    )  # fmt: skip


def _find_class(cls: type) -> ast.ClassDef:
    module = sys.modules.get(cls.__module__)
    filename = getattr(module, "__file__", None) or _filename_of_methods(cls)
    text = _source_text(filename, vars(module) if module else {}) if filename else ""
    where = f"{cls.__module__}.{cls.__qualname__}"
    for member in vars(cls).values():
        if isinstance(member, FunctionType) and member.__code__.co_filename == filename:
            _check_loaded(text, member, where)
    found = [node for name, node in _qualified_classes(_parse(text)) if name == cls.__qualname__] if text else []
    first_line = cls.__dict__.get("__firstlineno__")  # Python 3.13 and later
    if len(found) > 1 and first_line is not None:
        where = f"{cls.__module__}.{cls.__qualname__}"
    for member in vars(cls).values():
        if isinstance(member, FunctionType) and member.__code__.co_filename == filename:
            _check_loaded(text, member, where)
    found = [node for node in found if _first_line(node) == first_line] or found
    if len({encode_tree(node) for node in found}) == 1:
        return found[0]
    raise DigestError(
        f"the source of class {cls.__qualname__!r} " + ("is ambiguous" if found else "is not available"),
        where=where, because=f"{len(found)} definitions fit",
        hint="define it once, in a file",
    )  # fmt: skip


def _check_loaded(text: str, fn: FunctionType, where: str) -> None:
    """Raises DigestError if the file says something else by now than the code that was loaded from it."""
    code = fn.__code__
    if _is_plain_file(code.co_filename, fn.__globals__) and not _still_the_source(text, code):
        raise DigestError(
            f"the source of {fn.__qualname__!r} has changed since it was loaded",
            where=where,
            because="the code that would run is not the code in the file, so a key of the file would be wrong",
            hint="start the program again, or reload the module",
        )


def _source_text(filename: str, module_globals: dict[str, Any]) -> str:
    # linecache also knows notebook cells and modules in zip files. checkcache makes it forget a file that changed.
    linecache.checkcache(filename)
    return "".join(linecache.getlines(filename, module_globals))


@lru_cache(maxsize=64)
def _parse(text: str) -> ast.Module:
    tree = ast.parse(text)
    _normalise(tree)
    return tree


def _is_plain_file(filename: str, module_globals: dict[str, Any]) -> bool:
    # Other loaders (test runners, type checkers at run time) compile something else than the file: no comparison.
    loader = module_globals.get("__loader__")
    return type(loader) is SourceFileLoader and os.path.basename(loader.path) == os.path.basename(filename)


def _still_the_source(text: str, code: CodeType) -> bool:
    return any(_same_code(code, other) for other in _compiled(text).get((code.co_firstlineno, code.co_name), ()))


@lru_cache(maxsize=64)
def _compiled(text: str) -> dict[tuple[int, str], list[CodeType]]:
    found: dict[tuple[int, str], list[CodeType]] = {}
    stack = [compile(text, "<source>", "exec", dont_inherit=True)]
    while stack:
        code = stack.pop()
        found.setdefault((code.co_firstlineno, code.co_name), []).append(code)
        stack.extend(const for const in code.co_consts if isinstance(const, CodeType))
    return found


def _same_code(a: CodeType, b: CodeType) -> bool:
    if (a.co_code, a.co_names, a.co_varnames, a.co_freevars) != (b.co_code, b.co_names, b.co_varnames, b.co_freevars):
        return False
    return len(a.co_consts) == len(b.co_consts) and all(map(_same_constant, a.co_consts, b.co_consts))


def _same_constant(a: object, b: object) -> bool:
    if isinstance(a, CodeType) and isinstance(b, CodeType):
        return _same_code(a, b)
    # repr tells 1 from True and 0.0 from -0.0, but a frozenset has no order
    return type(a) is type(b) and (a == b if isinstance(a, frozenset) else repr(a) == repr(b))


def _candidates(text: str, code: CodeType) -> list[ast.AST]:
    wants_lambda = code.co_name == "<lambda>"
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    found: list[ast.AST] = [
        node
        for node in _definitions(text)
        if isinstance(node, ast.Lambda) == wants_lambda
        and _first_line(node) == code.co_firstlineno
        and getattr(node, "name", "<lambda>") == code.co_name
        and _argument_names(node, mangled=arguments) == arguments
    ]
    return _at_position(found, code) if wants_lambda and len(found) > 1 else found


@lru_cache(maxsize=64)
def _definitions(text: str) -> list[Definition]:
    return [node for node in ast.walk(_parse(text)) if isinstance(node, _DEFINITIONS)]


def _first_line(node: ast.AST) -> int:
    first: int = node.lineno  # type: ignore[attr-defined]
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([first, *(decorator.lineno for decorator in decorators)])


def _argument_names(node: Definition, *, mangled: tuple[str, ...]) -> tuple[str, ...]:
    given = node.args
    names = tuple(arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs))
    # A parameter `__x` in a class body is compiled as `_Class__x`.
    fits = len(names) == len(mangled) and all(m == n or m.endswith(n) for m, n in zip(mangled, names, strict=True))
    return mangled if fits else names


def _at_position(lambdas: list[ast.AST], code: CodeType) -> list[ast.AST]:
    """Of several lambdas that begin on one line, the innermost one that holds every instruction of `code`."""
    spans = [p for p in code.co_positions() if None not in p and p[3] != 0]
    if not spans:
        return lambdas
    start = min((line, column) for line, _, column, _ in spans)
    end = max((line, column) for _, line, _, column in spans)

    def holds(node: Any) -> bool:
        body = node.body
        return bool((body.lineno, body.col_offset) <= start and end <= (body.end_lineno, body.end_col_offset))

    holding = [node for node in lambdas if holds(node)]
    return sorted(holding, key=lambda node: (-node.lineno, -node.col_offset))[:1]  # type: ignore[attr-defined]


def _filename_of_methods(cls: type) -> str | None:
    codes = [member.__code__ for member in vars(cls).values() if isinstance(member, FunctionType)]
    return next((code.co_filename for code in codes if not code.co_filename.startswith("<string>")), None)


def _qualified_classes(tree: ast.AST) -> Iterator[tuple[str, ast.ClassDef]]:
    stack: list[tuple[str, ast.AST]] = [("", tree)]
    while stack:
        prefix, node = stack.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield prefix + child.name, child
                stack.append((f"{prefix}{child.name}.", child))
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                stack.append((f"{prefix}{child.name}.<locals>.", child))
            else:
                stack.append((prefix, child))


# -- normalising -----------------------------------------------------------------------------------------------------


def _normalise(tree: ast.AST) -> None:
    """Take out of a tree, in place, what does not change what the code does."""
    stack: list[tuple[ast.AST, bool]] = [(tree, False)]
    while stack:
        node, in_class = stack.pop()
        if isinstance(node, _DOCUMENTED):
            in_class = isinstance(node, ast.ClassDef)
            node.body = _without_docstring(node.body)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        elif isinstance(node, ast.arg):
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


_BLOCKS = ("body", "orelse", "finalbody")


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        body = body[1:]
    return [statement for statement in body if not isinstance(statement, ast.Pass)]


def _without_annotations(block: list[ast.stmt]) -> list[ast.stmt]:
    """`x: int = 5` becomes `x = 5`, and `x: int` goes. In class bodies annotations are data (fields) and stay."""
    plain: list[ast.stmt] = []
    for statement in block:
        if not isinstance(statement, ast.AnnAssign):
            plain.append(statement)
        elif statement.value is not None:
            plain.append(ast.Assign(targets=[statement.target], value=statement.value))
    return plain


def _merged(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string with neighbouring literals merged: Pythons differ in how they cut them."""
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
    """The canonical bytes of a normalised tree: `(`, class, then name and value of each field that is not empty, `)`.

    The name and decorators of `root` itself are left out. Iterative: a sum of a thousand terms is a tree a
    thousand levels deep.
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
                if item is root and name in _OWN_FIELDS and isinstance(root, _DEFINITIONS):
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
