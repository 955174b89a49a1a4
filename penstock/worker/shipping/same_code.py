"""Compare the code that a worker imports with the code that the driver made the keys from.

Tasks travel by value, and what they call by name: it is whatever the module says where they arrive. If that is another
release of the project, or a file that was edited after the driver had imported it, results of its code would lie under
the key of the driver's. So the driver says what the functions and methods compile to that count in the key, and which
numbers and words they use, and workers refuse to run others. Both have the same version of Python. Of constants that
may well differ from one machine to the other, such as paths, nothing is said.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType, NoneType
from typing import Any
from weakref import WeakKeyDictionary

from penstock.digests.code.byte_code import behaviour_digest
from penstock.digests.names import MAIN_NAMES, is_project_module
from penstock.digests.python import digest
from penstock.digests.sources import behind, reached
from penstock.errors import DigestError, RunnerError
from penstock.objects.texts import kind_name, module_of
from penstock.worker.messages import ShippedTask

_SHOWN = 3
_MOST_PARTS = 1_000
_known: WeakKeyDictionary[Any, tuple[str, dict[str, str]]] = WeakKeyDictionary()
"""By function: the digest of its code, and what was said of it."""
_seen: WeakKeyDictionary[ModuleType, dict[str, str | None]] = WeakKeyDictionary()
"""Constants as they were at first: a counter goes on while tasks run."""


def code_of(shipped_task: ShippedTask) -> dict[str, str]:
    """The functions (`module:name`) and constants (`module=name`) that count in the task's keys, with a digest of each.

    Only what workers import. Nothing for a task whose keys hold no code.
    """
    parts = dict(shipped_task.template.static) if shipped_task.template is not None else {}
    of_key = parts.get("task_code") or parts.get("task_source")
    fn = shipped_task.task.fn
    if of_key is None:
        return {}
    key = behind(fn, is_project_module)
    known = _known.get(key) if type(key) is FunctionType else None
    if known is not None and known[0] == of_key:
        return known[1]
    try:
        code = dict(_importable(reached(fn) if "task_code" in parts else [(key, [])]))
    except DigestError:  # whoever asks for the key learns why
        return {}
    if type(key) is FunctionType:
        _known[key] = (of_key, code)
    return code


def check_code(shipped_task: ShippedTask) -> None:
    """Raise `RunnerError` if a function that counts in the task's keys is another one here."""
    differing = [place for place, there in shipped_task.code.items() if _found(place) not in (None, there)]
    if not differing:
        shipped_task.code = {}  # each is compared once
        return
    shown = ", ".join(re.sub("[:=]", ".", place) for place in differing[:_SHOWN])
    more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    module = sys.modules[re.split("[:=]", differing[0])[0]]
    raise RunnerError(
        f"a worker imports other code than the driver: {shown}{more}",
        where=f"task {shipped_task.task.name}; {getattr(module, '__file__', module.__name__)} on the worker",
        because="its results would lie under the key of the driver's code",
        hint="start the driver again if the file was edited since it was imported there; on clusters, install the same "
        "version everywhere or send it along with ship=[...]",
    )


def _importable(counting: list[tuple[Any, list[tuple[str, Any]]]]) -> Iterator[tuple[str, str]]:
    for value, names in counting:
        if type(value) is FunctionType:
            module, qualname = str(value.__globals__.get("__name__")), value.__qualname__
        elif isinstance(value, type):
            module, qualname = module_of(value), kind_name(value)
        else:
            continue
        loaded = sys.modules.get(module)
        yield from _replaced(names, vars(loaded) if loaded is not None else {})
        if module in MAIN_NAMES or loaded is None or _attribute(loaded, qualname) is not value:
            continue  # it travels by value
        members = {f".{name}": member for name, member in vars(value).items()} if isinstance(value, type) else {}
        for name, member in ({"": value} | members).items():
            if (fn := _function(member)) is not None and fn.__globals__.get("__name__") == module:
                yield f"{module}:{qualname}{name}", behaviour_digest(fn)
        for name, found in names:
            if vars(loaded).get(name, ...) is not found:
                continue
            if _is_everywhere_the_same(found):
                yield f"{module}={name}", digest(found)
            elif type(found) is FunctionType:
                yield f"{module}:{name}", behaviour_digest(found)


def _replaced(names: list[tuple[str, Any]], scope: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is used as `module.function`: another function may have been put there, as tests do."""
    for name, found in names:
        head, _, rest = name.partition(".")
        module = scope.get(head)
        if rest and type(module) is ModuleType and type(found) is FunctionType and _attribute(module, rest) is found:
            yield f"{module.__name__}:{rest}", behaviour_digest(found)


def _found(place: str) -> str | None:
    """The digest of the function or constant of this module and name here; None if there is none."""
    name, kind, qualname = re.split("([:=])", place)
    module = sys.modules.get(name)
    if module is None:
        try:
            module = importlib.import_module(name)
        except Exception:  # noqa: BLE001 (if the task needs it, the task tells)
            return None
    if kind == "=":
        seen = _seen.setdefault(module, {})
        if qualname not in seen:
            constant = vars(module).get(qualname, ...)
            seen[qualname] = digest(constant) if _is_everywhere_the_same(constant) else None
        return seen[qualname]
    fn = _function(_attribute(module, qualname))
    return None if fn is None else behaviour_digest(fn)


def _is_everywhere_the_same(constant: Any) -> bool:
    """Whether it is made of numbers and words alone. Paths, hosts and objects are each machine's own; lists change."""
    stack, left = [constant], _MOST_PARTS
    while stack:
        value, left = stack.pop(), left - 1
        if type(value) in (tuple, frozenset) and len(value) <= left:
            stack.extend(value)
        elif type(value) is str:
            if not value.replace("_", "").isalnum():
                return False
        elif type(value) not in (int, float, bool, NoneType):
            return False
    return True


def _attribute(module: Any, qualname: str) -> Any:
    value = module
    for part in qualname.split("."):
        value = inspect.getattr_static(value, part, None)
    return value


def _function(value: Any) -> FunctionType | None:
    """The function behind what a module or class holds."""
    if isinstance(value, classmethod | staticmethod):
        value = value.__func__
    elif isinstance(value, property):
        value = value.fget
    return value if type(value) is FunctionType else None
