"""Reads a task's code to note what its digest covers. Used before a result is computed, and to explain a miss; keys do
not need it.
"""

from __future__ import annotations

import ast
import copy
import datetime
import decimal
import enum
import pathlib
import re
import reprlib
import uuid
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any

import msgspec
from blake3 import blake3

from penstock.digests.code.made_classes import is_made
from penstock.digests.code.syntax import class_syntax, encode_tree, function_syntax, module_syntax
from penstock.digests.definitions.behind import behind, home_of
from penstock.digests.functions import closure_items
from penstock.digests.names import importable_name, is_project_module, own_module, stable_module, stable_name
from penstock.digests.python import digest
from penstock.digests.sources import Reach, task_source_of_unnamed
from penstock.errors import DigestError
from penstock.graph.code import code_notes
from penstock.graph.code.code_notes import CodeNote, Piece
from penstock.objects.markers import is_marker
from penstock.objects.secrets import HIDDEN, Redactor, is_secret_name, redacted_text
from penstock.objects.texts import encodable, kind_of, text_of
from penstock.process.main_modules import importable_module

_SHORT_DIGEST = 20


def read_code(fn: Callable[..., Any], component: str, code_digest: str) -> CodeNote | None:
    """Return what the component `task_code` or `task_source` with this digest covers.

    None if the code cannot be read, or has changed since the digest was computed.
    """
    root = behind(fn, is_project_module)
    try:
        with own_module(home_of(root)):
            reading = _Reading(fn)
            found, pieces = reading.reached() if component == "task_code" else reading.alone()
    except DigestError:
        return None
    if found != code_digest:
        return None
    return CodeNote(code_notes.VERSION, code_digest, pieces)


class _Reading:
    """The pieces of one task's code, each once."""

    def __init__(self, fn: Any) -> None:
        self._reach = Reach(fn)
        self._pieces: dict[tuple[str, str], Piece] = {}
        self._users: dict[int, str] = {}
        """By the id of a piece of code: the name of one that uses it."""

    def reached(self) -> tuple[str, list[Piece]]:
        """Return the digest and pieces of the task and all code it uses, digesting constants once."""
        found = list(self._reach.pieces())
        for value, names in found:
            for _, used, meaning in names:
                if meaning.startswith(("code ", "module ")):
                    self._users.setdefault(id(behind(used, is_project_module)), self._name(value))
        for value, _ in found:
            self._add_code(value)
        for value, names in found:
            for name, behind_it, meaning in names:
                self._add_name(value, name, behind_it, meaning)
        return self._reach.digest_of(found), list(self._pieces.values())

    def alone(self) -> tuple[str, list[Piece]]:
        """Return the digest and pieces of the task's function with its defaults and closure variables."""
        open_ = [self._reach.root]
        seen = {id(self._reach.root)}
        while open_:
            value = open_.pop()
            self._add_code(value)
            if not isinstance(value, FunctionType):
                continue
            for name, held in _held_by(value):
                if isinstance(held, FunctionType) and is_project_module(home_of(held)):
                    if id(held) not in seen:
                        seen.add(id(held))
                        open_.append(held)
                    continue
                self._add_name(value, name, held, f"value {_digest_of(held, name)}")
        return task_source_of_unnamed(self._reach.root), list(self._pieces.values())

    # -- code

    def _add_code(self, value: Any) -> None:
        name = self._name(value)
        if isinstance(value, FunctionType):
            try:
                tree = function_syntax(value)
            except DigestError:
                if value is not self._reach.root:
                    raise
                self._put(Piece(code_notes.FUNCTION, name, _shown(value), _short(repr(value.__code__.co_code))), value)
                return
            self._put(_piece_of(code_notes.FUNCTION, name, _shown(value), tree), value)
        elif is_made(value):
            content = self._reach.label(value).rpartition(" ")[2]
            self._put(Piece(code_notes.CLASS, name, _shown(value), _short(content)), value)
        elif isinstance(value, type):
            tree = copy.copy(class_syntax(value))
            methods = [item for item in tree.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
            tree.body = [item for item in tree.body if item not in methods]
            self._put(_piece_of(code_notes.CLASS, name, _shown(value), tree), value)
            for method in methods:
                named, shown = f"{name}.{method.name}", f"{_shown(value)}.{method.name}"
                alone = ast.Module([method], [])  # so that its decorators count
                piece = _piece_of(code_notes.METHOD, named, shown, alone)
                before = self._pieces.get((code_notes.METHOD, named))
                if before is not None:  # a property and its setter share a name
                    piece = Piece(
                        piece.kind, named, shown, _short(before.digest + piece.digest), f"{before.text}\n{piece.text}"
                    )
                self._put(piece, value)
        elif isinstance(value, ModuleType):
            self._put(_piece_of(code_notes.MODULE, name, value.__name__, module_syntax(value)), value)
        else:
            # A partial, a bound method or a callable object: described by what it holds.
            self._put(
                Piece(code_notes.OBJECT, name, kind_of(value), _short(_digest_of(value, name)), told("", value)), value
            )

    def _name(self, value: Any) -> str:
        if value is self._reach.root:
            return code_notes.THE_TASK
        return stable_module(value.__name__) if isinstance(value, ModuleType) else stable_name(value)

    def _put(self, piece: Piece, code: Any = None) -> None:
        if code is not None and (user := self._users.get(id(code))) is not None and user != piece.name:
            piece = msgspec.structs.replace(piece, user=user)
        self._pieces[piece.kind, piece.name] = piece

    # -- names

    def _add_name(self, user: Any, name: str, value: Any, meaning: str) -> None:
        kind, label, of = _kind_of_name(user, name)
        how, _, what = meaning.partition(" ")
        if how in ("value", "mock"):
            text = told(label, value)
        elif how == "code":  # a piece of its own: only its name is noted here
            kind, what, text = code_notes.NAME, what.rpartition(" ")[0], _shown(behind(value, is_project_module))
        else:
            kind, text = code_notes.NAME, meaning.replace(" :", " ")
        # Constants belong to modules, and defaults, closure variables and what `self` has to functions.
        owner = self._name(user) if of == _shown(user) else _module_label(user)
        piece = Piece(kind, f"{owner} {label}", f"{label} of {of}", _short(what or how), text, self._name(user))
        if (kind, piece.name) not in self._pieces:
            self._put(piece)


def _kind_of_name(user: Any, name: str) -> tuple[str, str, str]:
    """Return the kind of a name in a piece of code, the name that people see, and its owner."""
    if isinstance(user, FunctionType):
        if name.startswith("default "):
            return code_notes.DEFAULT, _parameter(user, int(name.removeprefix("default "))), _shown(user)
        if name in user.__code__.co_freevars:
            return code_notes.CLOSURE, name, _shown(user)
        if name.partition(".")[0] in user.__code__.co_varnames:
            return code_notes.CONSTANT, name, _shown(user)
    return code_notes.CONSTANT, name, importable_module(_module_of(user))


def _module_label(user: Any) -> str:
    named = stable_name(user) if isinstance(user, FunctionType | type) else ""
    return "" if named.startswith(":") else stable_module(_module_of(user))


def _module_of(user: Any) -> str:
    return user.__name__ if isinstance(user, ModuleType) else home_of(user)


def _parameter(fn: FunctionType, number: int) -> str:
    """Return the parameter that a default belongs to: positional ones first, from the last backwards, then keywords."""
    count = fn.__code__.co_argcount
    with_default = fn.__code__.co_varnames[count - len(fn.__defaults__ or ()) : count]
    names = [*with_default, *(fn.__kwdefaults__ or {})]
    return names[number] if number < len(names) else f"parameter {number}"


def _held_by(fn: FunctionType) -> Iterator[tuple[str, Any]]:
    yield from closure_items(fn)
    for number, value in enumerate((*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values())):
        yield f"default {number}", value


def _shown(value: Any) -> str:
    module, qualname = importable_name(value)
    return f"{module}.{qualname}" if isinstance(value, FunctionType | type) else kind_of(value)


def _digest_of(value: Any, where: str) -> str:
    if type(value) is object:
        return "marker"
    try:
        return digest(value, where=where)
    except DigestError:
        if is_marker(value):
            return f"marker {stable_name(type(value))}"
        raise


def _short(text: str) -> str:
    return blake3(text.encode("utf-8", "surrogatepass")).hexdigest()[:_SHORT_DIGEST]


# -- texts


def _piece_of(kind: str, name: str, shown: str, tree: ast.AST) -> Piece:
    found = blake3(encode_tree(tree)).hexdigest()[:_SHORT_DIGEST]
    return Piece(kind, name, shown, found, _source(tree))


def _source(tree: ast.AST) -> str:
    """Return the source as `ast.unparse` writes it, without secrets; empty if it is too long."""
    try:
        tree = _Hiding().visit(copy.deepcopy(tree))
        if hasattr(tree, "decorator_list"):
            tree.decorator_list = []
        text = ast.unparse(ast.fix_missing_locations(tree))
    except (RecursionError, ValueError):  # too deep, or a tree that cannot be written as text
        return ""
    return encodable(redacted_text(text)) if len(text) <= code_notes.MAX_SOURCE else ""


class _Hiding(ast.NodeTransformer):
    """Replaces values assigned to secret names."""

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        if any(_secret_target(target) for target in node.targets):
            node.value = _hidden(node.value)
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None and _secret_target(node.target):
            node.value = _hidden(node.value)
        return self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        if node.arg is not None and is_secret_name(node.arg):
            node.value = _hidden(node.value)
        return self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        sides = [node.left, *node.comparators]
        if any(_secret_target(side) for side in sides):
            node.left, *node.comparators = map(_hidden, sides)
        return self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        for number, key in enumerate(node.keys):
            if isinstance(key, ast.Constant) and isinstance(key.value, str) and is_secret_name(key.value):
                node.values[number] = _hidden(node.values[number])
        return self.generic_visit(node)

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        positional = [*node.posonlyargs, *node.args]
        for number, argument in enumerate(positional[len(positional) - len(node.defaults) :]):
            if is_secret_name(argument.arg):
                node.defaults[number] = _hidden(node.defaults[number])
        for number, (argument, default) in enumerate(zip(node.kwonlyargs, node.kw_defaults, strict=True)):
            if default is not None and is_secret_name(argument.arg):
                node.kw_defaults[number] = _hidden(default)
        return self.generic_visit(node)


def _secret_target(target: ast.AST) -> bool:
    if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
        return isinstance(target.slice.value, str) and is_secret_name(target.slice.value)
    name = target.id if isinstance(target, ast.Name) else target.attr if isinstance(target, ast.Attribute) else ""
    return is_secret_name(name)


class _Literals(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(HIDDEN) if isinstance(node.value, str | bytes) else node


def _hidden(value: ast.expr) -> ast.expr:
    found: ast.expr = _Literals().visit(value)
    return found


def told(name: str, value: Any) -> str:
    """Describe a value briefly, without secrets. For other than plain values, only the class is shown."""
    if is_secret_name(name.rpartition(".")[2]):
        return HIDDEN
    text = Redactor({name: value})(text_of(value, _SHORT.repr))
    return text if len(text) <= code_notes.MAX_TOLD else f"{text[: code_notes.MAX_TOLD - 1]}…"


_TELLING = (
    *(bool, float, complex, type(None), type(...), range, decimal.Decimal, uuid.UUID),
    *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, re.Pattern),
)


class _Short(reprlib.Repr):
    """Shows the contents of Python's own types only: other reprs may be long, slow or unstable."""

    def repr_instance(self, x: Any, level: int) -> str:
        if type(x) in _TELLING or isinstance(x, enum.Enum | pathlib.PurePath):
            return repr(x)
        if isinstance(x, FunctionType | type):
            return _shown(x)
        if isinstance(x, MethodType):
            return _shown(x.__func__)
        return f"<{kind_of(x)}>"

    def repr1(self, x: Any, level: int) -> str:
        # The repr of a subclass of these is its author's.
        return super().repr1(x, level) if type(x) in _SHORTENED else self.repr_instance(x, level)


_SHORTENED = (tuple, list, set, frozenset, dict, str, int)
_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxfrozenset = _SHORT.maxdict = 8
