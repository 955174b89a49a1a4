"""Pickles of results, with classes of a script by importable name, and the facts that a reader needs.

cloudpickle pickles the classes of `__main__` by value. In the next process, an unpickled object would have a class of
its own, so that `==`, `isinstance` and `match` fail. Therefore a class with an importable name is pickled as
`getattr(import_module(…), …)`, which every unpickler understands, and unpickled as the class of this process, in
`__main__` or in the imported module.
"""

from __future__ import annotations

import importlib
import io
import pathlib
import pickle
import sys
import types
from typing import Any, BinaryIO

import cloudpickle

from penstock.objects.live import ResultPickler
from penstock.process.former_homes import home_of
from penstock.process.main_modules import MAIN_NAMES, living_names
from penstock.storage.formats.classes import class_name
from penstock.storage.formats.path_results import facts_of_paths
from penstock.storage.formats.trials import MOST_TRIALS, needs_trial, try_reading
from penstock.storage.formats.versions import PYTHON, version_of


def dump(value: Any, file: BinaryIO) -> dict[str, str]:
    """Write a pickle and return what a reader must know about it.

    Raises whatever pickling raises, and `SerializationError` for objects whose pickles cannot be loaded.
    """
    pickler = _Pickler(file, protocol=cloudpickle.DEFAULT_PROTOCOL)
    pickler.dump(value)
    for part in pickler.untried:
        try_reading(part, _again)
    facts = {"python": PYTHON, "packages": ", ".join(f"{name} {version_of(name)}" for name in sorted(pickler.packages))}
    if pickler.by_value:
        facts["code"] = "by value"
    return {key: fact for key, fact in facts.items() if fact} | facts_of_paths(pickler.paths)


def _again(part: Any) -> Any:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=cloudpickle.DEFAULT_PROTOCOL).dump(part)
    return load(buffer.getvalue())


def load(data: bytes | memoryview) -> Any:
    """Load a pickle. Runs the code that it names."""
    return _Unpickler(io.BytesIO(data) if len(data) < _SMALL else _Source(data)).load()


_SMALL = 1 << 20


class _Pickler(ResultPickler):
    def __init__(self, file: Any, protocol: int) -> None:
        super().__init__(file, protocol=protocol)
        self.packages: set[str] = set()
        self.paths: list[pathlib.Path] = []
        self.by_value = False
        self.untried: list[Any] = []

    def reducer_override(self, obj: Any) -> Any:
        if needs_trial(obj) and len(self.untried) < MOST_TRIALS:
            self.untried.append(obj)
        if isinstance(obj, type | types.FunctionType | types.BuiltinFunctionType):
            module = getattr(obj, "__module__", None) or ""
            if module in MAIN_NAMES and isinstance(obj, type):
                name = class_name(obj)
                if name and not name.startswith("__main__:"):
                    return _by_name(name)
            root = module.partition(".")[0]
            if root not in sys.stdlib_module_names and module not in MAIN_NAMES and version_of(root):
                self.packages.add(root)
        elif isinstance(obj, types.CodeType):
            self.by_value = True
        elif isinstance(obj, pathlib.Path):
            self.paths.append(obj)
        elif type(obj) is _Module:
            return importlib.import_module, (obj.name,)
        return super().reducer_override(obj)


class _Module:
    """Represents a module that the reader must import."""

    def __init__(self, name: str) -> None:
        self.name = name


def _by_name(name: str) -> tuple[Any, ...]:
    module, _, qualname = name.partition(":")
    found: Any = _Module(module)
    *outer, last = qualname.split(".")
    for part in outer:
        found = _Attribute(found, part)
    return getattr, (found, last)


class _Attribute:
    def __init__(self, of: Any, name: str) -> None:
        self.of, self.name = of, name

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.of, self.name)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = home_of(module)
        if (module, name) == ("importlib", "import_module"):
            return _living
        if module not in sys.modules:
            names = living_names(module)  # the script's, under its importable name
            root = name.partition(".")[0]
            if names is not None and root in names:
                found = names[root]
                for part in name.split(".")[1:]:
                    found = getattr(found, part)
                return found
        return super().find_class(module, name)


def _living(module: str) -> Any:
    module = home_of(module)
    names = living_names(module)
    if names is None:
        return importlib.import_module(module)
    return _Names(names, module)


class _Names:
    """The names of a module that exists here under another name, or partly; other names are imported."""

    def __init__(self, names: Any, module: str) -> None:
        self._names, self._module = names, module

    def __getattr__(self, name: str) -> Any:
        if name in self._names:
            return self._names[name]
        return getattr(importlib.import_module(self._module), name)


class _Source:
    """A buffer as a file for an unpickler, without copying it."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data, self._at = memoryview(data), 0

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else self._at + size
        chunk = bytes(self._data[self._at : end])
        self._at += len(chunk)
        return chunk

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        chunk = self._data[self._at : self._at + len(view)]
        view[: len(chunk)] = chunk
        self._at += len(chunk)
        return len(chunk)

    def readline(self) -> bytes:
        at = bytes(self._data[self._at : self._at + 4096]).find(b"\n")
        return self.read(at + 1 if at >= 0 else 4096)
