"""The source that modules of the project were loaded from, which their files may no longer contain.

Python keeps neither the source nor the code of a module's body. So the files are read soon after they were loaded: when
tasks and flows are defined, and when code is digested. The byte code that Python saves when it loads a file shows if it
was edited even before that.
"""

from __future__ import annotations

import marshal
import math
import os
import sys
import time
import warnings
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import MAGIC_NUMBER, decode_source
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from penstock.digests.code.byte_code import same_code
from penstock.digests.names import is_project_module
from penstock.errors import DigestError

_HEADER = 16
"""The size of a .pyc file's header: magic number, flags, time and size of the source."""
_INSTALLED = ("site-packages", "dist-packages")


@dataclass(slots=True)
class _Note:
    load: Any
    """The specification of the module: each load, and each reload, has its own. The module itself if it has none."""
    file: os.stat_result
    source: bytes
    time: float
    earlier: frozenset[bytes]
    """The sources of earlier loads."""
    edited: bool | None = None
    """Whether this is certainly not what was loaded. Compared on first use."""


_notes: dict[str, _Note] = {}
_others: set[str] = set()
"""Names of modules that are no files of the project."""
_last: tuple[Any, ...] = ()


def note_sources(of: Any = None) -> None:
    """Read the files of all modules of the project that have been loaded or reloaded since the last call.

    `of` is the module that is running. It may be one that is just being reloaded.
    """
    global _last
    latest = next(reversed(sys.modules), "")
    # What was loaded or reloaded moves to the end.
    now = (len(sys.modules), latest, id(_spec(sys.modules.get(latest))))
    names = [of] if now == _last else [*sys.modules, of]
    for name in names:
        module = sys.modules.get(name) if isinstance(name, str) and name not in _others else None
        if module is None:
            continue
        if _is_of_project(name, module):
            _noted(module)
        else:
            _others.add(name)
    _last = now


def loaded_sources(module: ModuleType, where: str, *, any_load: bool = False) -> list[str]:
    """Return the source that a module was loaded from, and with `any_load` those before it was reloaded, if known.

    Raises `DigestError` if the file was already another one when it was first read.
    """
    note = _noted(module)
    if note is None:
        return []
    if note.edited is None:
        kept = saved_code(getattr(note.load, "cached", None), note.file, until=note.time)
        note.edited = _is_other_code(kept, note.source)
    if note.edited:
        raise source_changed(module.__name__, where)
    try:
        return [decode_source(source) for source in (note.source, *(note.earlier if any_load else ()))]
    except (SyntaxError, UnicodeDecodeError):
        return []


def source_changed(name: str, where: str) -> DigestError:
    return DigestError(
        f"the source of {name!r} has changed since it was loaded", where=where,
        because="the loaded code is not the code in the file, so a key made from the file would be wrong",
        hint="restart the program, or reload the module",
    )  # fmt: skip


def _spec(module: Any) -> Any:
    # Asking another kind of module, such as a lazy one, may load it.
    return vars(module).get("__spec__") if type(module) is ModuleType else None


def _is_of_project(name: str, module: ModuleType) -> bool:
    if type(module) is not ModuleType or type(vars(module).get("__loader__")) is not SourceFileLoader:
        return False
    return not any(part in str(vars(module).get("__file__")) for part in _INSTALLED) and is_project_module(name)


def _noted(module: ModuleType) -> _Note | None:
    """Return the note of a module's last load, made now if it is missing."""
    scope = vars(module)
    loader, spec = scope.get("__loader__"), scope.get("__spec__")
    # Other loaders (test runners, runtime type checkers) modify the code.
    if type(loader) is not SourceFileLoader:
        return None
    load = module if spec is None else spec
    note = _notes.get(module.__name__)
    if note is None or note.load is not load:
        try:
            with Path(loader.path).open("rb") as file:  # also where a test replaces `open`
                stat, source = os.fstat(file.fileno()), file.read()
        except OSError:
            return None
        earlier = frozenset() if note is None else note.earlier | {note.source}
        note = _notes[module.__name__] = _Note(load, stat, source, time.time(), earlier)
    return note


def saved_code(path: str | None, source: os.stat_result, *, until: float = math.inf) -> CodeType | None:
    """Return the byte code that Python loads, or has loaded, instead of a source file; None if unknown.

    What was saved after the time `until` does not count: another process has loaded the file since.
    """
    try:
        with Path(path or "").open("rb") as file:
            if os.fstat(file.fileno()).st_mtime > until:
                return None
            data = file.read()
        if data[:4] != MAGIC_NUMBER or any(data[4:8]):
            return None
        seen = (int.from_bytes(data[8:12], "little"), int.from_bytes(data[12:16], "little"))
        is_valid = seen == (int(source.st_mtime) & 0xFFFFFFFF, source.st_size & 0xFFFFFFFF)
        if not is_valid and (sys.dont_write_bytecode or not os.access(os.path.dirname(path or ""), os.W_OK)):
            return None  # outdated, so this process did not use it, and could not replace it
        code = marshal.loads(data[_HEADER:])
    except (OSError, EOFError, ValueError, TypeError):
        return None
    return code if isinstance(code, CodeType) else None


def _is_other_code(kept: CodeType | None, source: bytes) -> bool:
    if kept is None:
        return False
    try:
        with warnings.catch_warnings(action="ignore"):
            return not same_code(kept, compile(source, "<source>", "exec", dont_inherit=True))
    except (SyntaxError, ValueError):
        return True  # the loaded source could be compiled
