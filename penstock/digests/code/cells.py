"""Cells: the source texts of a notebook or an interactive prompt, and finding the one that defined a class."""

from __future__ import annotations

import ast
import enum
import linecache
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.imported import loaded


def cell_texts() -> list[str]:
    """Return the source texts that are not files, in the order in which they were run."""
    entries: list[tuple[str, Any]] = list(linecache.cache.items())
    numbers = _execution_numbers()
    # A cell that is run again unchanged may keep its place in linecache; IPython knows its execution number.
    texts = [
        (numbers.get(name, 0), place, "".join(entry[2]))
        for place, (name, entry) in enumerate(entries)
        if len(entry) == 4 and entry[1] is None
    ]
    return [text for _, _, text in sorted(texts)]


def _execution_numbers() -> Mapping[str, int]:
    ipython = loaded("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    numbers = getattr(getattr(shell, "compile", None), "_filename_map", None)
    return numbers if isinstance(numbers, dict) else {}


def newest_fit(cls: type, statements: Sequence[ast.ClassDef]) -> list[ast.ClassDef]:
    """Return a list with the latest of the statements that may have defined the class; empty if none may have."""
    return [each for each in statements if _may_have_made(each, cls)][-1:]


def _may_have_made(statement: ast.ClassDef, cls: type) -> bool:
    annotated: list[str] = []
    constants: dict[str, Any] = {}
    for part in statement.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            annotated.append(part.target.id)
            names, value = [part.target.id], part.value
        elif isinstance(part, ast.Assign):
            names, value = [target.id for target in part.targets if isinstance(target, ast.Name)], part.value
        elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if part.name not in vars(cls) and not part.name.startswith("__"):
                return False
            continue
        else:
            continue
        if isinstance(value, ast.Constant):
            constants.update(dict.fromkeys(names, value.value))
    known = _annotated(cls)
    if known is not None and not set(annotated) <= known:
        return False
    return all(_same(constant, _attribute(cls, name, constant)) for name, constant in constants.items())


def _annotated(cls: type) -> set[str] | None:
    """Return the names that the class itself annotates, or None if they are unknown."""
    if "_fields" in vars(cls):
        return set(vars(cls)["_fields"])
    try:
        own = vars(cls).get("__annotations__") or (cls.__annotations__ if "__annotate_func__" in vars(cls) else {})
    except NameError:  # an undefined type: Python 3.14 evaluates annotations only now
        return None
    return set(own)


def _attribute(cls: type, name: str, default: Any) -> Any:
    fields: Any = vars(cls).get("__dataclass_fields__", {})
    if name in fields:
        return fields[name].default
    defaults: Any = vars(cls).get("_field_defaults", {})
    found = defaults[name] if name in defaults else vars(cls).get(name, default)
    return found._value_ if isinstance(found, enum.Enum) else found


def _same(constant: Any, found: Any) -> bool:
    # A base class or decorator may have replaced the constant by something else, which proves nothing.
    return type(found) not in _CONSTANTS or (type(found) is type(constant) and bool(found == constant))


_CONSTANTS = frozenset({int, float, complex, str, bytes, bool, type(None)})
