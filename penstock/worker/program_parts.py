"""What workers need of a driver's program: the classes of its script, and the digests that it has registered.

Functions of a script are pickled by value together with the classes they mention, but results may contain others. The
code that registers digests may be in a script, or in a module that workers do not import.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import cloudpickle

from penstock.objects.code_pickles import small_pickle
from penstock.objects.registrations import Function, Name, carried, name_of, registrations
from penstock.process.main_modules import MAIN_NAMES, carried_names


class ScriptClasses(Mapping[str, Any]):
    """Classes by name. Pickling it includes this process's classes; each one is unpickled on first use."""

    def __init__(self, pickled: Mapping[str, bytes] | None = None) -> None:
        self._pickled = pickled

    def __call__(self) -> Mapping[str, Any]:
        return vars(sys.modules["__main__"]) if self._pickled is None else self

    def __getitem__(self, name: str) -> Any:
        # cloudpickle recognises classes it has created before, so this is the class that the script's functions use.
        return cloudpickle.loads((self._pickled or {})[name])

    def __contains__(self, name: object) -> bool:
        return name in (self._pickled or {})

    def __iter__(self) -> Iterator[str]:
        return iter(self._pickled or {})

    def __len__(self) -> int:
        return len(self._pickled or {})

    def __reduce__(self) -> tuple[Any, ...]:
        return ScriptClasses, (_of_script() if self._pickled is None else self._pickled,)


def script_classes() -> ScriptClasses:
    """Return the classes of this process's script, or on a worker those of the driver's."""
    names = carried_names()
    return names if isinstance(names, ScriptClasses) else ScriptClasses()


def _of_script() -> dict[str, bytes]:
    main = sys.modules.get("__main__")
    found = {}
    for name, held in list(vars(main).items()) if main is not None else ():
        if isinstance(held, type) and held.__module__ in MAIN_NAMES and held.__qualname__ == name:
            found[name] = small_pickle(held)
    return {name: data for name, data in found.items() if data is not None}


class RegisteredDigests:
    """Registrations by the name of the class. Pickling it includes this process's; each is unpickled on first use."""

    def __init__(self, pickled: Mapping[Name, bytes] | None = None) -> None:
        self._pickled = pickled
        self._known: dict[Name, tuple[type, Function] | None] = {}

    def __call__(self, name: Name) -> tuple[type, Function] | None:
        if self._pickled is None or name not in self._pickled:
            return None
        if name not in self._known:
            try:
                self._known[name] = cloudpickle.loads(self._pickled[name])
            except Exception:  # noqa: BLE001 (the module may be missing here: the value then has no digest)
                self._known[name] = None
        return self._known[name]

    def __bool__(self) -> bool:
        return bool(self._pickled)

    def __reduce__(self) -> tuple[Any, ...]:
        return RegisteredDigests, (_registered() if self._pickled is None else self._pickled,)


def registered_digests() -> RegisteredDigests:
    """Return the registrations of this process, or on a worker those of its driver."""
    found = carried()
    return found if isinstance(found, RegisteredDigests) else RegisteredDigests()


def _registered() -> dict[Name, bytes]:
    found = {name_of(cls): small_pickle((cls, fn)) for cls, fn in registrations().items()}
    return {name: data for name, data in found.items() if data is not None}
