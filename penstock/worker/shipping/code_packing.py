"""`ship=["pkg"]`: packages of the project that travel with a run, for workers that cannot import them.

The driver packs the files of a package or module as bytes, which reach workers by the means of the engine. A worker
process unpacks them once for each content, into a folder of its own that is found before all others. What was packed of
other contents under the same names is forgotten first, so no run meets the modules of another one's sources.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from penstock.errors import ConfigurationError

MAX_BYTES = 64 * 2**20
"""All files together. Each worker gets them once for each run, so what is larger is better installed there."""
_LEFT_OUT = frozenset({"__pycache__", "node_modules"})
_COMPILED = (*importlib.machinery.EXTENSION_SUFFIXES, ".so", ".pyd", ".dylib", ".dll")
_TIME = (1980, 1, 1, 0, 0, 0)

Ship = Sequence[str | os.PathLike[str]]
"""Packages and modules by name, or by the path of their folder or file."""


@dataclass(frozen=True, slots=True)
class Shipment:
    """Files that travel with a run."""

    names: frozenset[str]
    """The packages and modules in it."""
    digest: str
    """Of names and contents of its files."""
    archive: bytes
    """A zip."""
    platform: str
    """What its compiled extensions were built for; empty if it has none."""


def pack(ship: Ship) -> Shipment | None:
    """What is to travel, read from disk now; None if that is nothing.

    Raises `ConfigurationError` for a name that cannot be found or is no package of files, for too many bytes, and for a
    module that is loaded here from older source: workers would run some of either.
    Compiled extensions travel as the files they are, and only to workers of the same system and version of Python.
    """
    if not ship:
        return None
    import hashlib  # what packs is imported by those alone who ship
    import zipfile

    from penstock.worker.shipping.loaded_sources import is_older, loaded_from_files

    places = dict(_place(entry) for entry in ship)
    files = sorted((arcname, path) for name, place in places.items() for arcname, path in _files_of(name, place))
    _check_size(files, places)
    loaded = loaded_from_files(places)
    digest, buffer = hashlib.sha256(), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for arcname, path in files:
            with open(path, "rb") as file:
                data = file.read()
            module = loaded.get(os.path.realpath(path))
            if module is not None and is_older(module, data):
                raise _outdated(module.__name__, path)
            for part in (arcname.encode(), data):
                digest.update(len(part).to_bytes(8, "big") + part)
            archive.writestr(zipfile.ZipInfo(arcname, _TIME), data)
    compiled = any(path.endswith(_COMPILED) for _, path in files)
    return Shipment(frozenset(places), digest.hexdigest(), buffer.getvalue(), this_platform() if compiled else "")


def this_platform() -> str:
    """What compiled extensions have to be built for to be imported here."""
    import sysconfig

    return f"{sysconfig.get_platform()}, {sys.implementation.cache_tag}"


def check_ship(ship: Ship) -> tuple[str | os.PathLike[str], ...]:
    """What was given as `ship=`, as a tuple; raises `ConfigurationError` if it is no list of names and paths."""
    if isinstance(ship, str | os.PathLike) or not all(isinstance(entry, str | os.PathLike) for entry in ship):
        raise ConfigurationError(
            f"ship={ship!r}", because="it is a list of names and paths", hint='ship=["my_package"]'
        )
    return tuple(ship)


def _place(entry: str | os.PathLike[str]) -> tuple[str, list[str]]:
    """The name that an entry is imported by, and its folders, or its one file."""
    said = os.fspath(entry)
    if isinstance(entry, str) and os.sep not in said and not said.endswith(".py"):
        return said, _found(said)
    path = os.path.abspath(os.path.expanduser(said))
    name = os.path.basename(path).removesuffix(".py")
    if not os.path.exists(path):
        raise _cannot(said, "there is nothing at that path")
    if not name.isidentifier() or (os.path.isfile(path) and not path.endswith(".py")):
        raise _cannot(said, "it is neither the folder of a package nor the .py file of a module")
    return _refuse_penstock(name), [path]


def _found(name: str) -> list[str]:
    """Where a package or module is that can be imported here; it is not imported for that."""
    if "." in name:
        raise _cannot(name, "only whole packages travel", hint=f"ship {name.partition('.')[0]!r}")
    if _refuse_penstock(name) == "__main__":
        raise _cannot(name, "functions of the program itself travel with their tasks anyway")
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise _cannot(
            name, "no package or module of that name can be imported here", hint="see sys.path, or give its path"
        )
    places = list(spec.submodule_search_locations or ([spec.origin] if spec.has_location and spec.origin else []))
    if not places or not all(os.path.exists(place) for place in places):
        raise _cannot(name, f"it does not come from files of its own ({spec.origin or spec.loader})")
    return places


def _refuse_penstock(name: str) -> str:
    if name == "penstock":
        raise _cannot(name, "what unpacks the others has to be there before", hint="install Penstock on the workers")
    return name


def _cannot(
    entry: str, because: str, *, hint: str = 'name a package or module of your project, as in ship=["pkg"]'
) -> ConfigurationError:
    return ConfigurationError(f"cannot ship {entry!r}", because=because, hint=hint)


def _outdated(module: str, path: str) -> ConfigurationError:
    return _cannot(
        module,
        f"it was loaded before {path} became what it is now, and workers would run some of either",
        hint="start the program again; if that does not help, remove __pycache__ beside the file, which is out of date",
    )


def _files_of(name: str, places: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The files of a package or module, each by its name in the archive."""
    for place in places:
        if os.path.isfile(place):
            yield os.path.basename(place), place
            continue
        for folder, below, files in os.walk(place):
            below[:] = [each for each in below if each not in _LEFT_OUT and not each.startswith(".")]
            inside = os.path.join(name, os.path.relpath(folder, place))
            for file in files:
                path = os.path.join(folder, file)
                if not file.endswith(".pyc") and not file.startswith(".") and os.path.isfile(path):
                    yield os.path.normpath(os.path.join(inside, file)), path


def _check_size(files: Sequence[tuple[str, str]], names: Iterable[str]) -> None:
    sizes = [(os.path.getsize(path), arcname) for arcname, path in files]
    total = sum(size for size, _ in sizes)
    if total > MAX_BYTES:
        size, largest = max(sizes)
        raise ConfigurationError(
            f"{', '.join(sorted(names))}: too large to be shipped",
            because=f"{total:,} bytes are more than {MAX_BYTES:,}; the largest file is {largest} with {size:,}",
            hint="install it on the workers, or keep data outside of the package",
        )
