"""The classes of a driver's script, for workers, where results refer to them by name.

Functions of a script are pickled by value together with the classes they mention, but results may contain others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import cloudpickle

from penstock.objects.code_pickles import BoundedFile, CodePickler
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
            file = BoundedFile()
            try:
                CodePickler(file).dump(held)
            except Exception:  # noqa: BLE001, S112 (workers report it if a result needs the class)
                continue
            found[name] = b"".join(file.chunks)
    return found
