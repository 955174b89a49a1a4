"""The classes of a driver's script, for workers: results name them, and nothing else there would be found by that name.

Functions of a script travel by value, and with them the classes that they mention. A result may hold others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import cloudpickle

from penstock.process.main_modules import MAIN_NAMES, carried_names

_MOST_BYTES = 1 << 18
"""Of one class: a larger one has data of the script in it, which its methods mention."""


class ScriptClasses(Mapping[str, Any]):
    """Names to classes. Pickled it is what this process defines; each class is unpickled when it is asked for."""

    def __init__(self, pickled: Mapping[str, bytes] | None = None) -> None:
        self._pickled = pickled

    def __call__(self) -> Mapping[str, Any]:
        return vars(sys.modules["__main__"]) if self._pickled is None else self

    def __getitem__(self, name: str) -> Any:
        # cloudpickle knows a class again that it has made before, so this is the one of the script's functions.
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
    """Those of this process's script, or of the driver's on a worker."""
    names = carried_names()
    return names if isinstance(names, ScriptClasses) else ScriptClasses()


def _of_script() -> dict[str, bytes]:
    main = sys.modules.get("__main__")
    found = {}
    for name, held in list(vars(main).items()) if main is not None else ():
        if isinstance(held, type) and held.__module__ in MAIN_NAMES and held.__qualname__ == name:
            file = _Bounded()
            try:
                cloudpickle.dump(held, file)
            except Exception:  # noqa: BLE001, S112 (it is then not found on workers, and told if a result needs it)
                continue
            found[name] = b"".join(file.chunks)
    return found


class _TooLarge(Exception):
    pass


class _Bounded:
    """A file that takes so much and no more."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> int:
        chunk = bytes(data)
        self._size += len(chunk)
        if self._size > _MOST_BYTES:
            raise _TooLarge
        self.chunks.append(chunk)
        return len(chunk)
