"""The digests that a driver's program has registered, for workers, which may not run the code that registers them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cloudpickle

from penstock.objects.code_pickles import BoundedFile, CodePickler
from penstock.objects.registrations import Function, Name, carried, name_of, registrations


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
    found = {}
    for cls, fn in registrations().items():
        file = BoundedFile()
        try:
            CodePickler(file).dump((cls, fn))
        except Exception:  # noqa: BLE001, S112 (workers report it if a value needs it)
            continue
        found[name_of(cls)] = b"".join(file.chunks)
    return found
