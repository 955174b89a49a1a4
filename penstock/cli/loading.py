"""From `FILE_OR_MODULE:FLOW` to the flow: imports the user's code and says clearly what is wrong with it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

from penstock.cli.output import say
from penstock.errors import FlowImportError, PenstockError
from penstock.flows.attempts import noting_runs
from penstock.flows.definition import Flow
from penstock.objects.texts import closest
from penstock.objects.tracebacks import place_in_users_code


def load_flow(target: str) -> Flow[..., Any]:
    """The flow that `FILE_OR_MODULE:FLOW` names. `:FLOW` may be left out where there is exactly one.

    A file is imported under the name it has for an import from its own folder, which is also what `python FILE` stands
    for in keys. So the same flow has the same keys whichever way it is started. The folder goes to the front of
    `sys.path`, as it does for a script.

    Raises `FlowImportError`.
    """
    place, name = _split(target)
    with noting_runs() as begun:
        module = _import_file(place, name) if _is_file(place) else _import_module(place)
    for flow in dict.fromkeys(begun):
        # What was asked for comes after that: `why` and `plan` would find everything there.
        note = 'put the call under `if __name__ == "__main__":` so that it only runs as a script'
        say(f"note: importing {place} ran the flow {flow}; {note}", err=True)
    return _pick(module, place, name)


def _split(target: str) -> tuple[str, str | None]:
    place, colon, name = target.rpartition(":")
    if not colon or os.sep in name or os.path.isfile(target):
        return target, None
    if not place or not name:
        raise FlowImportError(f"{target!r} names no flow", hint="write FILE.py:FLOW or MODULE:FLOW")
    return place, name


def _is_file(place: str) -> bool:
    return place.endswith(".py") or place.startswith(".") or os.sep in place or os.path.isfile(place)


# -- picking the flow -------------------------------------------------------------------------------------------------


def _pick(module: ModuleType, place: str, name: str | None) -> Flow[..., Any]:
    flows = _flows_of(module)
    if name is None:
        return _only(flows, place)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Flow):
        return found
    close = closest(name, flows)
    if found is not None:
        because = f"it is a {type(found).__name__}"
        hint = "decorate it with @flow" if callable(found) else ""
        raise FlowImportError(f"{name} is not a flow", where=place, because=because, hint=hint)
    hint = f"did you mean {place}:{close}?" if close else _choices(flows)
    raise FlowImportError(f"there is no flow {name}", where=place, hint=hint)


def _only(flows: dict[str, Flow[..., Any]], place: str) -> Flow[..., Any]:
    different = {id(flow): flow for flow in flows.values()}
    if len(different) == 1:
        return next(iter(different.values()))
    what = "there is more than one flow" if flows else "there is no flow"
    hint = (
        f"name one of: {', '.join(f'{place}:{name}' for name in flows)}" if flows else "decorate a function with @flow"
    )
    raise FlowImportError(what, where=place, hint=hint)


def _flows_of(module: ModuleType) -> dict[str, Flow[..., Any]]:
    """The flows in a module by variable; those it only imported count if it defines none itself."""
    flows = {name: value for name, value in vars(module).items() if isinstance(value, Flow)}
    own = {name: flow for name, flow in flows.items() if flow.fn.__module__ == module.__name__}
    return own or flows


def _choices(flows: dict[str, Flow[..., Any]]) -> str:
    return f"its flows are {', '.join(flows)}" if flows else "decorate a function with @flow"


# -- importing --------------------------------------------------------------------------------------------------------


def _import_module(name: str) -> ModuleType:
    folder = os.getcwd()
    if folder not in sys.path:
        # As `python -m` does it; the installed command would look beside itself only.
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _import_error(name, error) from error
        hint = "write FILE.py:FLOW, or MODULE:FLOW from the folder it is in"
        raise FlowImportError(f"there is no module {error.name}", where=name, hint=hint) from error
    except (Exception, SystemExit) as error:
        raise _import_error(name, error) from error


def _import_file(place: str, flow: str | None) -> ModuleType:
    path = os.path.abspath(os.path.expanduser(place))
    if not os.path.isfile(path):
        raise _no_file(place, path)
    folder, file = os.path.split(path)
    if file == "__init__.py":
        folder, name = os.path.split(folder)
    else:
        name = os.path.splitext(file)[0]
    known = sys.modules.get(name)
    if known is not None:
        if _same_file(getattr(known, "__file__", None), path):
            return known
        raise FlowImportError(
            f"{place} cannot be imported as {name}",
            because="another module of that name is already imported",
            hint="give the file another name",
        )
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return _execute(name, path, place, flow)


def _execute(name: str, path: str, place: str, flow: str | None) -> ModuleType:
    # Not by the import system's search: it could find another module of this name.
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FlowImportError(f"{place} is not a Python file", hint="its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, Exception | SystemExit):
            raise _import_error(place, error, _as_module(path, flow, error)) from error
        raise
    return module


def _no_file(place: str, path: str) -> FlowImportError:
    folder, file = os.path.split(path)
    try:
        there = [name for name in os.listdir(folder) if name.endswith(".py")]
    except OSError:
        return FlowImportError(f"there is no file {place}", because=f"there is no folder {folder}")
    close = closest(file, there)
    hint = f"did you mean {os.path.join(os.path.dirname(place), close)}?" if close else ""
    return FlowImportError(f"there is no file {place}", hint=hint)


def _same_file(one: str | None, other: str) -> bool:
    try:
        return one is not None and os.path.samefile(one, other)
    except OSError:
        return False


def _import_error(place: str, error: BaseException, as_module: str = "") -> FlowImportError:
    """The error of an import; `as_module` says how to name the file as part of its package, if that helps."""
    where, because = _place_of(error), f"{type(error).__name__}: {error}"
    hint = ""
    if isinstance(error, SyntaxError):
        because = f"{type(error).__name__}: {error.msg}"
        hint = "correct this line; no code of the file was run"
    elif as_module:
        hint = f"it is part of a package: name it by its module, {as_module}"
    elif isinstance(error, ModuleNotFoundError):
        hint = f"install {(error.name or '').partition('.')[0]}, or use an environment that has it"
    elif isinstance(error, PenstockError):
        because = f"{error.what}: {error.because}" if error.because else error.what
        hint = error.hint
    elif isinstance(error, SystemExit):
        hint = 'put the code of the script under `if __name__ == "__main__":`'
    return FlowImportError(f"{place} cannot be imported", where=where or place, because=because, hint=hint)


def _place_of(error: BaseException) -> str:
    """`file:line` of what went wrong: the last of the user's own lines that led there."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    return place_in_users_code(error)


def _as_module(path: str, flow: str | None, error: BaseException) -> str:
    """`PACKAGE.MODULE:FLOW` of a file whose imports only work as part of its package; empty if that is not the error.

    These are relative imports, and absolute ones of a package that is a folder above the file.
    """
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        above = os.path.dirname(path)
        while os.path.basename(above) not in (top, ""):
            above = os.path.dirname(above)
        root = os.path.dirname(above) if os.path.basename(above) == top else None
    elif isinstance(error, ImportError) and "relative import" in str(error):
        root = os.path.dirname(os.path.dirname(path))
        while os.path.exists(os.path.join(root, "__init__.py")):
            root = os.path.dirname(root)
    else:
        root = None
    if root is None:
        return ""
    module = os.path.splitext(os.path.relpath(path, root))[0].replace(os.sep, ".").removesuffix(".__init__")
    where = "" if os.path.samefile(root, os.getcwd()) else f" (from {root})"
    return f"{module}:{flow}{where}" if flow else f"{module}{where}"
