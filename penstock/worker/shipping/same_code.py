"""Compare the code that a worker imports with the code that the driver made the keys from.

Functions of scripts travel by value, those of modules by name: they are whatever the module says where they arrive. If
that is another release of the project, or a file that was edited after the driver had imported it, results of its code
would lie under the key of the driver's. So the driver says what is at the places that count in the key, and workers
refuse to run another. What each process has of its own is not compared: caches, counters, the time of the start, paths.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sized
from types import FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from penstock.digests.definitions.behind import behind
from penstock.digests.names import is_project_module
from penstock.errors import DigestError, RunnerError
from penstock.objects.hidden import steps_to
from penstock.objects.named import MISSING, found_at
from penstock.worker.messages import ShippedTask
from penstock.worker.shipping.changed_names import Variables, variables_read_by
from penstock.worker.shipping.code_contents import code_held_by, content_digest, is_changed_by_its_loader
from penstock.worker.shipping.code_places import CODE, Place, is_plain_object, own_place, parts_at, places_of
from penstock.worker.shipping.process_state import begins_empty, is_of_package, is_of_process
from penstock.worker.shipping.reached_code import reached

Code = dict[Place, tuple[bool, dict[str, str]]]
"""By place: whether the source of functions was digested, and the digest of each part."""

_SHOWN = 3
_known: WeakKeyDictionary[Any, tuple[str, Code]] = WeakKeyDictionary()
"""By function: the digest of its code, and what was said of it."""
_at_first: WeakKeyDictionary[ModuleType, dict[str, str | None]] = WeakKeyDictionary()
"""By module and path: the digests of variables that tasks change, when this process first compared them."""


def code_of(shipped_task: ShippedTask) -> Code:
    """Return digests of what workers import and what counts in the task's keys.

    Of a function that travels by the name of its task, also those of its own code and of the variables that it reads.
    """
    parts = dict(shipped_task.template.static) if shipped_task.template is not None else {}
    of_key = parts.get("task_code") or parts.get("task_source")
    fn = shipped_task.task.fn
    key = behind(fn, is_project_module)
    known = _known.get(key) if type(key) is FunctionType else None
    if of_key is not None and known is not None and known[0] == of_key:
        return {**known[1], **_hidden_in(key, known[1])}
    try:
        pieces = [] if of_key is None else reached(fn) if "task_code" in parts else [(key, [])]
    except DigestError:  # whoever asks for the key learns why
        return {}
    code = {place: _contents(place, value) for place, value in places_of(pieces)}
    if type(key) is FunctionType and of_key is not None:
        _known[key] = (of_key, code)
    return {**code, **_hidden_in(key, code)}


def _hidden_in(function: Any, of_key: Code) -> Code:
    """Return digests of a function that travels by the name of its task, and of the variables that it reads."""
    code: Code = {}
    while type(function) is FunctionType and is_project_module(function.__module__):
        place = own_place(function)
        if place is not None and steps_to(function) is not None:
            code[place] = _contents(place, found_at(*place))
            read = variables_read_by(function)
            for name, value in [*read.constants.items(), *read.changed.items()]:
                home = place[0], name
                code[home] = _marked(home, value, _mark(home, value, read, counts=home in of_key))
                for each in filter(None, map(own_place, code_held_by(value))):  # its import may register it
                    code.setdefault(each, _contents(each, found_at(*each)))
        function = vars(function).get("__wrapped__")
    return code


_EXACTLY = "="
"""Marks the digest of a variable that begins empty and that only the program has set, so that workers need it too."""
_AT_FIRST = "~"
"""Marks the digest of a variable that the task changes, which must be what this process has, or had at first."""
_REMEMBERED = "?"
"""Marks the digest of a variable that the task changes and that counts in no key of it."""
_MARKS = _EXACTLY + _AT_FIRST + _REMEMBERED


def _marked(place: Place, value: Any, mark: str) -> tuple[bool, dict[str, str]]:
    by_source, parts = _contents(place, value)
    return by_source, {name: mark + digest for name, digest in parts.items()}


def _mark(place: Place, value: Any, read: Variables, *, counts: bool) -> str:
    module, name = place
    if name in read.changed:
        return _AT_FIRST if counts else _REMEMBERED
    if not begins_empty(sys.modules[module], name):
        return ""
    if not _is_empty(value):
        return _EXACTLY
    return _REMEMBERED if not counts else _AT_FIRST if read.imports else ""


def _is_empty(value: Any) -> bool:
    return not value if isinstance(value, int | Sized | None) else False


def _contents(place: Place, value: Any) -> tuple[bool, dict[str, str]]:
    by_source = is_changed_by_its_loader(place[0])
    return by_source, {name: content_digest(part, by_source=by_source) for name, part in parts_at(place, value)}


def check_code(shipped_task: ShippedTask) -> None:
    """Raise `RunnerError` if what counts for a task is something else here."""
    differing = list(_differing(shipped_task.code))
    if not differing:
        shipped_task.code = {}  # each is compared once
        return
    names = list(dict.fromkeys(f"{module}.{path}".partition(".<")[0] for module, path in differing))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    module = sys.modules[differing[0][0]]
    raise RunnerError(
        f"a worker imports other code than the driver: {', '.join(names[:_SHOWN])}{more}",
        where=f"task {shipped_task.task.name}; {getattr(module, '__file__', module.__name__)} on the worker",
        because="the task would compute something else than in the driver's process"
        if shipped_task.template is None
        else "its results would lie under the key of the driver's code",
        hint="if the file was edited, restart the driver (or the workers, whichever imported it before); on clusters, "
        "install the same version everywhere or send it along with ship=[...]; what the program sets in a module at "
        "run time, or reads from its environment, set on workers with worker_setup=, or pass it as an argument",
    )


def _differing(code: Code) -> Iterator[Place]:
    """Yield the places where this process has something else, or code that the driver does not have."""
    # All are imported first, because a module may register functions with another.
    modules = {name: _imported(name) for name, _ in code}
    for place, (by_source, told) in code.items():
        module = modules[place[0]]
        if module is None:
            continue
        owner = found_at(*place)
        parts = dict(parts_at(place, owner))
        added = [name for name, part in parts.items() if isinstance(part, CODE) or name.startswith("<")]
        for name in dict.fromkeys([*told, *added]):
            path = ".".join(filter(None, (place[1], name)))
            part, marked = parts.get(name, MISSING), told.get(name)
            here = None if part is MISSING else content_digest(part, by_source=by_source)
            mark = marked[0] if marked and marked[0] in _MARKS else ""
            there = marked[1:] if marked and mark else marked
            at_first = _at_first.setdefault(module, {}).setdefault(path, here) if mark else here
            if mark == _REMEMBERED or here == there or (mark == _AT_FIRST and at_first == there):
                continue
            if isinstance(owner, type) and is_of_package(owner, name, part):
                continue
            holds_code = (there or "").startswith("!") or (here or "").startswith("!")
            value = held if is_plain_object(held := found_at(place[0], path)) else part  # its part is its class
            if mark == _EXACTLY or not is_of_process(module, path, value, holds_code=holds_code):
                yield place[0], path


def _imported(name: str) -> ModuleType | None:
    if name not in sys.modules:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 (if the task needs it, the task tells)
            return None
    found = sys.modules.get(name)
    return found if type(found) is ModuleType else None
