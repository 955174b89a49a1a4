"""Which names of a module hold something of each process's own, such as the time of its start or what it remembers.

Judged by the source of the module: functions assign such a name or change what it holds, or its value is made from a
clock, a process, a machine or chance.
"""

from __future__ import annotations

import ast
import os
import pathlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from penstock.digests.code.syntax import module_syntax
from penstock.errors import DigestError
from penstock.worker.shipping.code_places import CODE

_CHANGING = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "move_to_end", "pop"}
    | {"popitem", "popleft", "put", "register", "remove", "setdefault", "update"}
)
_OF_PROCESSES = frozenset(
    {"argv", "cpu_count", "executable", "get_ident", "getpid", "getppid", "tempfile", "gettempdir", "mkdtemp"}
    | {"mkstemp", "monotonic", "now", "perf_counter", "perf_counter_ns", "process_time", "time", "time_ns", "today"}
    | {"utcnow", "choice", "randint", "random", "secrets", "token_bytes", "token_hex", "urandom", "uuid1", "uuid4"}
    | {"getfqdn", "gethostname", "getnode", "getpass", "getuser", "__file__", "cwd", "expanduser", "getcwd", "home"}
)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def is_of_process(module: ModuleType, path: str, value: Any) -> bool:
    """Return whether a constant of a module, or an attribute of a class in it, differs between processes by intent.

    Of a function or class, only whether functions assign its name. False without a source. Names of one spelling are
    not told apart.
    """
    try:
        tree = module_syntax(module)
    except (DigestError, SyntaxError):
        return False
    *owner, name = path.split(".")
    inside = list(_in_functions(tree))
    if any(isinstance(node, ast.Global) and name in node.names for node in inside):
        return True
    if isinstance(value, (*CODE, type)):
        return False
    owners = frozenset({"cls", "__class__", *owner[-1:]})
    return any(_changes(node, name, owners) for node in inside) or any(
        _is_made_here(made, value) for made in _assigned(tree, name)
    )


def _in_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS):
            yield from ast.walk(node)


def _changes(node: ast.AST, name: str, owners: frozenset[str]) -> bool:
    """Return whether a node assigns a name as an attribute of its class, or changes what it holds."""
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
        if node.attr == name:
            owner = node.value
            return isinstance(owner, ast.Call) or any(_is_named(owner, known) for known in owners)
        return _is_named(node.value, name)
    if isinstance(node, ast.Subscript):
        return not isinstance(node.ctx, ast.Load) and _is_named(node.value, name)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in _CHANGING and _is_named(node.func.value, name)
    return False


def _is_named(node: ast.AST, name: str) -> bool:
    return (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.Attribute) and node.attr == name)


def _assigned(tree: ast.AST, name: str) -> Iterator[ast.expr]:
    """Yield what is assigned to a name outside of functions."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, _FUNCTIONS):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        made = getattr(node, "value", None)
        if isinstance(made, ast.expr) and any(target is not None and _is_named(target, name) for target in targets):
            yield made
        stack.extend(ast.iter_child_nodes(node))


def _is_made_here(made: ast.expr, value: Any) -> bool:
    names = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(made)}
    is_place = isinstance(value, pathlib.PurePath) or (type(value) is str and (os.sep in value or "\\" in value))
    computed = any(isinstance(node, ast.Call | ast.BinOp | ast.Subscript) for node in ast.walk(made))
    return bool(names & _OF_PROCESSES) or (is_place and computed)
