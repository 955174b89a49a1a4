"""Which names of modules hold something of each process's own, such as the time of its start or what it remembers.

The source decides. Such a name begins empty, or with None or a count of 0 that functions change; or it is made from a
clock, a process, a machine or chance. What begins with something else is a setting or a definition.
"""

from __future__ import annotations

import ast
import linecache
import os
import pathlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from types import ModuleType
from typing import Any

from penstock.digests.code.syntax import module_syntax
from penstock.digests.names import is_project_module
from penstock.errors import DigestError
from penstock.objects.texts import kind_name, module_of

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_SUBCLASSING = frozenset({"__init_subclass__", "__set_name__"})
_MAKING = frozenset({"__init__", "__new__", "__post_init__", "__attrs_post_init__", "model_post_init"})
_CONTAINERS = frozenset(
    {"Counter", "LRUCache", "OrderedDict", "Queue", "SimpleQueue", "TTLCache", "WeakKeyDictionary", "WeakSet"}
    | {"WeakValueDictionary", "defaultdict", "deque", "dict", "list", "set"}
)
_CLOCKS = frozenset(
    {"cpu_count", "get_ident", "getfqdn", "gethostname", "getnode", "getpid", "getppid", "getuser", "mkdtemp"}
    | {"mkstemp", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "process_time_ns"}
    | {"time_ns", "token_bytes", "token_hex", "token_urlsafe", "urandom", "utcnow", "uuid1", "uuid4", "SystemRandom"}
)
"""Functions whose answers are each process's own, whatever they are asked."""
_CLOCKS_OF = frozenset(
    {"time.time", "datetime.now", "datetime.today", "date.today", "random.random", "random.randint", "random.choice"}
    | {"random.getrandbits", "secrets.choice", "Path.cwd", "Path.home", "os.getcwd"}
)
_BARE = frozenset({"time", "random", "now", "today"})
_MOST_MODULES = 500


def is_of_process(module: ModuleType, path: str, value: Any, *, holds_code: bool = False) -> bool:
    """Return whether a constant of a module, or an attribute in it, differs between processes by intent.

    A container that `holds_code` is a registry, and only differs by intent if subclasses fill it. False without a
    source. Names of one spelling are not told apart.
    """
    name = path.rpartition(".")[2]
    module = _home(module, name, value)
    source = _walked(module)
    if isinstance(value, _CODE_KINDS):
        return False
    if holds_code:
        return any(_name_of(node) == name for node in source.subclassing)
    made = _assigned(source.outside, name)
    of_objects = not made and "." in path
    if of_objects:
        made = _assigned(source.making, name, attributes=True) or _assigned(source.inside, name, attributes=True)
    if made and (all(map(_is_container, made)) or all(_is_made_here(node, value) for node in made)):
        return True
    if not all(map(_is_nothing, made)):
        return False
    counts = bool(made) and all(isinstance(node, ast.Constant) and node.value == 0 for node in made)
    owner = "" if of_objects else "self"
    return any(
        _changes(other, name, counts=counts, other_than=owner) for other in chain([module], _project_modules(name))
    )


def is_of_package(cls: type, name: str, value: Any) -> bool:
    """Return whether an attribute of an installed class is one that the class's own module changes or fills."""
    module = sys.modules.get(module_of(cls))
    if type(module) is not ModuleType or is_project_module(module.__name__):
        return False
    return is_of_process(module, f"{kind_name(cls)}.{name}", value) or _changes(
        module, name, counts=False, other_than="self"
    )


def begins_empty(module: ModuleType, name: str) -> bool:
    """Return whether a variable of a module begins as an empty container, None or 0."""
    made = _assigned(_walked(module).outside, name)
    return bool(made) and all(_is_nothing(each) or _is_container(each) for each in made)


def _home(module: ModuleType, name: str, value: Any) -> ModuleType:
    """Return the module that defines a name, if this one has imported it."""
    if _assigned(_walked(module).outside, name) or name not in vars(module):
        return module
    same = (other for other in _project_modules(name) if vars(other).get(name) is value)
    return next((other for other in same if _assigned(_walked(other).outside, name)), module)


def _is_nothing(made: ast.expr) -> bool:
    return isinstance(made, ast.Constant) and made.value in (None, 0) and made.value is not False


_CODE_KINDS = (type, type(lambda: None), property, classmethod, staticmethod)


def _project_modules(name: str) -> Iterator[ModuleType]:
    """Yield loaded modules of the project whose source has this name in it."""
    loaded = [module for module in list(sys.modules.values()) if type(module) is ModuleType]
    for module in islice((module for module in loaded if is_project_module(module.__name__)), _MOST_MODULES):
        if any(name in line for line in linecache.getlines(vars(module).get("__file__") or "", vars(module))):
            yield module


@dataclass
class _Source:
    """The nodes of a module's syntax tree."""

    outside: list[ast.AST] = field(default_factory=list)
    inside: list[ast.AST] = field(default_factory=list)
    """In functions."""
    making: list[ast.AST] = field(default_factory=list)
    """In functions that make objects."""
    subclassing: list[ast.AST] = field(default_factory=list)
    """In functions that a new subclass calls."""


@lru_cache(maxsize=64)
def _walked(module: ModuleType) -> _Source:
    source = _Source()
    try:
        stack: list[tuple[ast.AST, list[ast.AST]]] = [(module_syntax(module), source.outside)]
    except (DigestError, SyntaxError, AttributeError):
        return source
    while stack:
        node, found = stack.pop()
        found.append(node)
        if isinstance(node, _FUNCTIONS):
            name = getattr(node, "name", "")
            found = source.making if name in _MAKING else source.inside
            found = source.subclassing if name in _SUBCLASSING else found
        stack.extend((child, found) for child in ast.iter_child_nodes(node))
    return source


def _assigned(nodes: list[ast.AST], name: str, *, attributes: bool = False) -> list[ast.expr]:
    """Return what is assigned to a name, or else to attributes of that name."""
    kind = ast.Attribute if attributes else ast.Name
    found: list[ast.expr] = []
    for node in nodes:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, kind) and _name_of(target) == name for target in targets):
                found.append(node.value)
    return found


def _name_of(node: ast.AST) -> str:
    return str(getattr(node, "id", getattr(node, "attr", "")))


def _is_container(made: ast.expr) -> bool:
    """Return whether an expression makes an empty container."""
    if isinstance(made, ast.Dict | ast.List):
        return not (made.keys if isinstance(made, ast.Dict) else made.elts)
    if not isinstance(made, ast.Call):
        return False
    factories = [each.value for each in made.keywords if each.arg in ("default_factory", "factory")]
    if factories:  # of a field
        return all(_name_of(factory) in _CONTAINERS for factory in factories)
    name = _name_of(made.func)
    if name in ("defaultdict", "TTLCache", "LRUCache"):
        return True
    return name in _CONTAINERS and not made.args and (name == "deque" or not made.keywords)


def _is_made_here(made: ast.expr, value: Any) -> bool:
    """Return whether a value is a time, a number of a process or machine, chance, or a place that was looked up."""
    if isinstance(value, pathlib.PurePath) or (type(value) is str and os.path.isabs(value)):
        return any(isinstance(node, ast.Call | ast.BinOp | ast.Subscript) for node in ast.walk(made))
    return any(_asks_the_process(node) for node in ast.walk(made))


def _asks_the_process(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in ("argv", "executable") and _name_of(node.value) == "sys"
    if not isinstance(node, ast.Call):
        return False
    name = _name_of(node.func)
    if isinstance(node.func, ast.Name):
        return name in (*_CLOCKS, "hash", "id") or (name in _BARE and not node.args)
    return name in _CLOCKS or f"{_name_of(node.func.value)}.{name}" in _CLOCKS_OF  # type: ignore[attr-defined]


def _changes(module: ModuleType, name: str, *, counts: bool, other_than: str) -> bool:
    """Return whether a module's functions assign a name that was None, or count with one that was 0."""
    return any(
        _assigns(node, name, counts=counts, other_than=other_than)
        for node in [*_walked(module).inside, *_walked(module).making]
    )


def _assigns(node: ast.AST, name: str, *, counts: bool, other_than: str) -> bool:
    if isinstance(node, ast.AugAssign):
        return _name_of(node.target) == name
    if counts:
        return False
    if isinstance(node, ast.Global):
        return name in node.names
    if isinstance(node, ast.Attribute):
        return node.attr == name and not isinstance(node.ctx, ast.Load) and _name_of(node.value) != other_than
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        return isinstance(node.slice, ast.Constant) and node.slice.value == name
    if isinstance(node, ast.Call) and _name_of(node.func) == "setattr" and len(node.args) > 1:
        return isinstance(node.args[1], ast.Constant) and node.args[1].value == name
    return False
