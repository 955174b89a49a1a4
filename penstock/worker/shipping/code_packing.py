"""`ship=["pkg"]`: sends packages of the project with a run, for workers that cannot import them.

The driver packs the files of a package or module into bytes, which the engine sends to workers. A worker process
unpacks each version once, into a folder of its own at the front of the import path. Modules of other versions are
removed first, so that no run uses modules from another one's sources.
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
"""The limit for all files together. Each worker receives them once per run, so larger packages should be installed."""
_LEFT_OUT = frozenset({"__pycache__", "node_modules"})
_COMPILED = (*importlib.machinery.EXTENSION_SUFFIXES, ".so", ".pyd", ".dylib", ".dll")
_TIME = (1980, 1, 1, 0, 0, 0)

Ship = Sequence[str | os.PathLike[str]]
"""Packages and modules by name, or by the path of their folder or file."""


@dataclass(frozen=True, slots=True)
class Shipment:
    """Files that are sent with a run."""

    names: frozenset[str]
    """The packages and modules in it."""
    digest: str
    """The digest of the names and contents of its files."""
    archive: bytes
    """A zip archive."""
    platform: str
    """The platform of its compiled extensions; empty if it has none."""


def pack(ship: Ship) -> Shipment | None:
    """Pack packages and modules as they are on disk now; None if `ship` is empty.

    Compiled extensions are included as files, for workers with the same system and version of Python. Raises
    `ConfigurationError` if a name cannot be found or is not a package of files, if there are too many bytes, or if a
    module was loaded here from older source: workers would run a mixture of both.
    """
    if not ship:
        return None
    import hashlib  # only needed for shipping
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
    """Return the platform for which compiled extensions must be built to be imported here."""
    import sysconfig

    return f"{sysconfig.get_platform()}, {sys.implementation.cache_tag}"


def check_ship(ship: Ship) -> tuple[str | os.PathLike[str], ...]:
    """Return a `ship=` argument as a tuple. Raises `ConfigurationError` if it is not a list of names and paths."""
    if isinstance(ship, str | os.PathLike) or not all(isinstance(entry, str | os.PathLike) for entry in ship):
        raise ConfigurationError(
            f"ship cannot be {ship!r}", because="it must be a list of names and paths", hint='pass ship=["my_package"]'
        )
    return tuple(ship)


def _place(entry: str | os.PathLike[str]) -> tuple[str, list[str]]:
    """Return the import name of an entry, and its folders or its single file."""
    said = os.fspath(entry)
    if isinstance(entry, str) and os.sep not in said and not said.endswith(".py"):
        return said, _found(said)
    path = os.path.abspath(os.path.expanduser(said))
    name = os.path.basename(path).removesuffix(".py")
    if not os.path.exists(path):
        raise _cannot(said, "the path does not exist")
    if not name.isidentifier() or (os.path.isfile(path) and not path.endswith(".py")):
        raise _cannot(said, "it is neither the folder of a package nor the .py file of a module")
    return _refuse_penstock(name), [path]


def _found(name: str) -> list[str]:
    """Return the location of a package or module that can be imported here, without importing it."""
    if "." in name:
        raise _cannot(name, "only whole packages can be shipped", hint=f"ship {name.partition('.')[0]!r}")
    if _refuse_penstock(name) == "__main__":
        raise _cannot(name, "functions of the program itself are always sent with their tasks")
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise _cannot(
            name, "no package or module of that name can be imported here", hint="check sys.path, or pass its path"
        )
    places = list(spec.submodule_search_locations or ([spec.origin] if spec.has_location and spec.origin else []))
    if not places or not all(os.path.exists(place) for place in places):
        raise _cannot(name, f"it does not come from files of its own ({spec.origin or spec.loader})")
    return places


def _refuse_penstock(name: str) -> str:
    if name == "penstock":
        raise _cannot(name, "workers need it to unpack the others", hint="install Penstock on the workers")
    return name


def _cannot(
    entry: str, because: str, *, hint: str = 'name a package or module of your project, as in ship=["pkg"]'
) -> ConfigurationError:
    return ConfigurationError(f"cannot ship {entry!r}", because=because, hint=hint)


def _outdated(module: str, path: str) -> ConfigurationError:
    return _cannot(
        module,
        f"it was loaded before {path} changed, and workers would run a mixture of both versions",
        hint="restart the program; if that does not help, delete the outdated __pycache__ next to the file",
    )


def _files_of(name: str, places: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the files of a package or module with their names in the archive."""
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
            because=f"{total:,} bytes exceed the limit of {MAX_BYTES:,}; the largest file is {largest} with {size:,}",
            hint="install it on the workers, or keep data outside the package",
        )
