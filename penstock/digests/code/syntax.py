"""Syntax trees of functions, classes and modules: found in the source, checked against the running code, and cached.

Each file is indexed once, so that the cost for all functions of a module is proportional to its length.
"""

from __future__ import annotations

import ast
import linecache
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import SourceFileLoader
from types import CodeType, FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from blake3 import blake3

from penstock.digests.code.byte_code import same_code
from penstock.digests.code.cells import cell_texts, newest_fit
from penstock.digests.code.loaded import loaded_sources, source_changed
from penstock.digests.code.trees import DEFINITIONS, Definition, encode_tree, normalise
from penstock.errors import DigestError
from penstock.objects.named import MISSING, found_at
from penstock.objects.questions import ask

__all__ = [
    "class_syntax",
    "encode_tree",
    "function_code_digest",
    "function_syntax",
    "has_statement",
    "lacks_statement",
    "module_syntax",
]

_NO_SOURCE_HINT = (
    "use cache_policy=INPUTS + CacheKey('v1') instead of TASK_CODE or TASK_SOURCE, and change 'v1' with the code; "
    "or define it in a file or a notebook"
)


def function_syntax(fn: FunctionType) -> ast.AST:
    """Return the syntax tree of a function as the parser produces it.

    Raises `DigestError` if there is no source, if the source has changed since it was loaded, or if several lambdas on
    one line cannot be distinguished.
    """
    return _known(fn).tree


def function_code_digest(fn: FunctionType) -> bytes:
    """Return a digest (20 bytes) of a function's normalised syntax tree, which is the same on every supported Python.

    Raises the errors of `function_syntax`.
    """
    return _known(fn).digest


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    tree: ast.AST
    digest: bytes


# Caches. They also preserve digests of code whose file was edited after it was loaded and digested.
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
    """Return the syntax tree of a class statement.

    Raises `DigestError` if it cannot be found, or if its source or that of one of its methods has changed since it was
    loaded.
    """
    known = _classes.get(cls)
    if known is None:
        known = _classes[cls] = _find_class(cls)
    return known


def has_statement(cls: type) -> bool:
    """Return False if the module's source is available and has no such class statement: a call created the class."""
    if cls in _classes:
        return True
    module = sys.modules.get(cls.__module__)
    filename = getattr(module, "__file__", None)
    text = _source_text(filename, vars(module)) if module is not None and filename else ""
    return not text or cls.__qualname__ in _classes_in(text)


def lacks_statement(cls: type, there: Any) -> bool:
    """Return whether a call created a class: no source has a class statement of its name.

    Args:
        cls: The class.
        there: What its name means in its module, which decides if there is no source at all.
    """
    if not has_statement(cls):
        return True
    if hasattr(sys.modules.get(cls.__module__), "__file__"):
        return False
    texts = list(cell_texts())
    return not any(_statements_in(text, cls) for text in texts) if texts else there is MISSING


def module_syntax(module: Any) -> ast.Module:
    """Return the syntax tree of a whole module.

    Raises `DigestError` if it has no source, or if this has changed since it was loaded.
    """
    filename = getattr(module, "__file__", None) or ""
    text = _source_text(filename, vars(module))
    if not text and not os.path.isfile(filename):  # an empty file is a valid source
        raise DigestError(f"the source of module {module.__name__!r} is not available", where=module.__name__,
                          hint="use the names it contains instead of the module")  # fmt: skip
    tree = _parse(text)
    for loaded in loaded_sources(module, module.__name__):
        if loaded != text and encode_tree(_parse(loaded)) != encode_tree(tree):
            raise source_changed(module.__name__, module.__name__)
    return tree


# -- finding ---------------------------------------------------------------------------------------------------------


def _find_function(fn: FunctionType) -> ast.AST:
    code = fn.__code__
    where = f"{fn.__module__}.{fn.__qualname__} ({os.path.basename(code.co_filename)}, line {code.co_firstlineno})"
    text = _source_text(code.co_filename, fn.__globals__)
    if not text:
        raise DigestError(
            f"the source of {fn.__qualname__!r} is not available", where=where,
            because="this prompt keeps no source" if code.co_filename == "<stdin>" else "it was defined in a string",
            hint=_NO_SOURCE_HINT,
        )  # fmt: skip
    line = _check_loaded(text, fn, where)
    found = _candidates(text, code, line)
    if len({encode_tree(node) for node in found}) == 1:
        return found[0]
    raise DigestError(
        f"the source of {fn.__qualname__!r} is ambiguous" if found
        else f"the source of {fn.__qualname__!r} is not where its code says", where=where,
        because=f"{len(found)} definitions match", hint="put it on a line of its own, or define it with `def`",
    )  # fmt: skip


def _find_class(cls: type) -> ast.ClassDef:
    where = f"{cls.__module__}.{cls.__qualname__}"
    found = _statements_in_files(cls, where)
    of_cells = not found and _may_be_of_a_cell(cls)
    if of_cells:
        found = [node for text in cell_texts() for node in _statements_in(text, cls)]
    first_line = cls.__dict__.get("__firstlineno__")  # Python 3.13 and later
    found = [node for node in found if _first_line(node) == first_line] or found
    if of_cells and len({encode_tree(node) for node in found}) > 1:
        found = newest_fit(cls, found) or found
    if len({encode_tree(node) for node in found}) == 1:
        return found[0]
    raise DigestError(
        f"the source of class {cls.__qualname__!r} " + ("is ambiguous" if found else "is not available"),
        where=where, because=f"{len(found)} definitions match",
        hint="define it once, in a file",
    )  # fmt: skip


def _statements_in_files(cls: type, where: str) -> list[ast.ClassDef]:
    """Search the file of its module, and if that fails, the files of its methods, such as a notebook's cells."""
    module = sys.modules.get(cls.__module__)
    scope = vars(module) if module else {}
    own = getattr(module, "__file__", None)
    for filename in dict.fromkeys([own] if own else []) | dict.fromkeys(_filenames_of_methods(cls)):
        text = _source_text(filename, scope)
        for member in vars(cls).values():
            if isinstance(member, FunctionType) and member.__code__.co_filename == filename:
                _check_loaded(text, member, where)
        if text and (found := list(_statements_in(text, cls))):
            if module is not None and filename == own:
                _check_loaded_class(text, cls, module, where)
            return found
    return []


def _check_loaded_class(text: str, cls: type, module: ModuleType, where: str) -> None:
    """Raise `DigestError` if the file no longer contains the class statement that was loaded from it."""
    present = found_at(cls.__module__, cls.__qualname__)
    is_of_earlier_load = (
        present is not cls
        and type(present) is type(cls)
        and (ask(present, "__module__"), ask(present, "__qualname__")) == (cls.__module__, cls.__qualname__)
    )
    for loaded in loaded_sources(module, where, any_load=is_of_earlier_load):
        if loaded != text and _encoded(loaded, cls) != _encoded(text, cls):
            raise source_changed(cls.__qualname__, where)


def _encoded(text: str, cls: type) -> list[bytes]:
    return [encode_tree(each) for each in _statements_in(text, cls)]


def _may_be_of_a_cell(cls: type) -> bool:
    """Return whether a class may come from any cell: without methods it does not say from which."""
    module = sys.modules.get(cls.__module__)
    return module is None or not hasattr(module, "__file__") or cls.__module__ == "__main__"


def _statements_in(text: str, cls: type) -> Sequence[ast.ClassDef]:
    try:
        return _classes_in(text).get(cls.__qualname__, ())
    except SyntaxError:  # a cell that never ran
        return ()


def _check_loaded(text: str, fn: FunctionType, where: str) -> int:
    """Return the line at which a function stands. Raise `DigestError` if the file no longer contains its code."""
    code = fn.__code__
    if not _is_plain_file(code.co_filename, fn.__globals__):
        return code.co_firstlineno  # a cell with `await` cannot be compiled by itself
    line = _line_of(text, code)
    if line is None:
        raise source_changed(fn.__qualname__, where)
    return line


def _source_text(filename: str, module_globals: dict[str, Any]) -> str:
    if filename == "<string>":  # of any `exec`; Python 3.13 has the text of `python -c` there
        return ""
    # linecache also knows notebook cells and modules in zip files. checkcache drops files that changed.
    linecache.checkcache(filename)
    lines = linecache.getlines(filename, module_globals)
    known = _texts.get(filename)
    if known is None or known[0] is not lines:  # linecache returns the same list as long as the file is unchanged
        if len(_texts) >= _MAX_TEXTS:
            _texts.clear()
        known = _texts[filename] = (lines, "".join(lines))
    return known[1]


_texts: dict[str, tuple[list[str], str]] = {}
_MAX_TEXTS = 64


@lru_cache(maxsize=_MAX_TEXTS)
def _parse(text: str) -> ast.Module:
    try:
        tree = ast.parse(text)
    except SystemError:  # Python 3.11 counts the depth of trees of several threads in one place
        tree = ast.parse(text)
    normalise(tree)
    return tree


def _is_plain_file(filename: str, module_globals: dict[str, Any]) -> bool:
    # Other loaders (test runners, runtime type checkers) modify the code, so it cannot be compared with the file.
    loader = module_globals.get("__loader__")
    return type(loader) is SourceFileLoader and os.path.basename(loader.path) == os.path.basename(filename)


def _line_of(text: str, code: CodeType) -> int | None:
    """Return the line of the source at which a function stands, or None if the source has no such code.

    Usually that is its own first line. It is another one if other parts of the file were edited, or if a tool such as
    IPython's autoreload has compiled the function by itself.
    """
    compiled = _compiled(text)
    if any(same_code(code, other) for other in compiled.get((code.co_firstlineno, code.co_name), ())):
        return code.co_firstlineno
    if code.co_name == "<lambda>":
        return None  # one line may have several
    others = (other for (_, name), found in compiled.items() if name == code.co_name for other in found)
    lines = [other.co_firstlineno for other in others if same_code(code, other)]
    return lines[-1] if lines else None


@lru_cache(maxsize=_MAX_TEXTS)
def _compiled(text: str) -> dict[tuple[int, str], list[CodeType]]:
    found: dict[tuple[int, str], list[CodeType]] = {}
    stack = [compile(text, "<source>", "exec", dont_inherit=True)]
    while stack:
        code = stack.pop()
        found.setdefault((code.co_firstlineno, code.co_name), []).append(code)
        stack.extend(const for const in code.co_consts if isinstance(const, CodeType))
    return found


def _candidates(text: str, code: CodeType, line: int) -> list[ast.AST]:
    wants_lambda = code.co_name == "<lambda>"
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    found: list[ast.AST] = [
        node
        for node in _definitions(text).get((line, code.co_name), ())
        if _argument_names(node, mangled=arguments) == arguments
    ]
    return _at_position(found, code) if wants_lambda and len(found) > 1 else found


@lru_cache(maxsize=_MAX_TEXTS)
def _definitions(text: str) -> dict[tuple[int, str], list[Definition]]:
    """Return functions and lambdas by their first line and name."""
    found: dict[tuple[int, str], list[Definition]] = {}
    for node in ast.walk(_parse(text)):
        if isinstance(node, DEFINITIONS):
            found.setdefault((_first_line(node), getattr(node, "name", "<lambda>")), []).append(node)
    return found


@lru_cache(maxsize=_MAX_TEXTS)
def _classes_in(text: str) -> dict[str, list[ast.ClassDef]]:
    """Return class statements by qualified name."""
    found: dict[str, list[ast.ClassDef]] = {}
    for name, node in _qualified_classes(_parse(text)):
        found.setdefault(name, []).append(node)
    return found


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
    """Return, of several lambdas on one line, the innermost one that contains every instruction of `code`."""
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


def _filenames_of_methods(cls: type) -> list[str]:
    # Enums contain methods of `enum` itself, and dataclasses some that `dataclasses` generates.
    own = [m for m in vars(cls).values() if isinstance(m, FunctionType) and m.__module__ == cls.__module__]
    names = dict.fromkeys(member.__code__.co_filename for member in own)
    return [name for name in names if not name.startswith("<string>")]


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
