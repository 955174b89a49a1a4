"""Settings files: finding them, checking their owner, and reading their keys and profiles.

Settings decide where results are stored, where tasks run and which function is imported for the signing keys, and a
file may be in any folder above the working folder. Therefore a file that another user owns or can write to is refused.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.errors import ConfigurationError
from penstock.ownership import others_can_change
from penstock.settings.values import ALL_BUT_PROFILE, Said, said_as, unknown

FILE = "penstock.toml"
SAFE_FOLDERS = "PENSTOCK_SAFE_FOLDERS"
"""The variable that lists folders, separated by `:`, whose settings are read whoever owns them; `*` allows all."""
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class File:
    """The validated keys and profiles of a settings file."""

    path: str
    plain: Said
    profiles: dict[str, Said]


def files_of(home: str, folder: str, safe: str) -> list[File]:
    """Read the user file and the project file, those that exist. `safe` is the value of `SAFE_FOLDERS`."""
    user = os.path.join(home, FILE)
    found = [(user, "user file", _table(user, safe))]
    for parent in _upwards(folder):
        own, shared = os.path.join(parent, FILE), os.path.join(parent, "pyproject.toml")
        if own == user:
            continue
        if (table := _table(own, safe)) is not None:
            found.append((own, "project file", table))
            break
        if (table := _tool_table(shared, safe)) is not None:
            found.append((shared, "project file", table))
            break
    return [_checked(path, f"{kind} {path}", table) for path, kind, table in found if table is not None]


def _checked(path: str, origin: str, table: Mapping[str, Any]) -> File:
    folder = os.path.dirname(path)
    profiles = table.get("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(values, dict) for values in profiles.values()):
        raise ConfigurationError(
            "a profile must be a table", where=origin, hint="write [profiles.NAME] and its keys below it"
        )
    return File(
        path,
        said_as({name: value for name, value in table.items() if name != "profiles"}, origin, folder),
        {
            name: said_as(values, f"{origin}, profile {name}", folder, known=ALL_BUT_PROFILE)
            for name, values in profiles.items()
        },
    )


def _table(path: str, safe: str) -> dict[str, Any] | None:
    """Read and parse a file. Returns None if it does not exist."""
    read = _read(path)
    if read is None:
        return None
    data, found = read
    _refuse_foreign(path, found, safe)
    return _parsed(path, data)


def _tool_table(path: str, safe: str) -> dict[str, Any] | None:
    read = _read(path)
    if read is None or b"penstock" not in read[0]:
        return None
    tools = _parsed(path, read[0]).get("tool", {})
    table = tools.get("penstock") if isinstance(tools, dict) else None
    if table is None:
        return None
    _refuse_foreign(path, read[1], safe)  # only now: a foreign file without settings for Penstock is harmless
    if not isinstance(table, dict):
        raise ConfigurationError(
            "tool.penstock must be a table", where=path, hint="write [tool.penstock] and its keys below it"
        )
    return table


def _read(path: str) -> tuple[bytes, os.stat_result] | None:
    """Return the content and status of a file, or None if there is no file at the path."""
    try:
        # Non-blocking, in case it is a pipe.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(file, "rb") as opened:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.ENXIO, "it is not a regular file")
            data = opened.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise ConfigurationError(
            "cannot read a settings file",
            where=path,
            because=error.strerror or str(error),
            hint="make the file readable, or remove it",
        ) from error
    if len(data) > _MAX_BYTES:
        raise ConfigurationError("a settings file is too large", where=path, because=f"the limit is {_MAX_BYTES} bytes")
    return data, found


def _refuse_foreign(path: str, found: os.stat_result, safe: str) -> None:
    reason = others_can_change(found)
    folder = os.path.dirname(path)
    if not reason or any(
        each == "*" or (each and os.path.realpath(each) == os.path.realpath(folder)) for each in safe.split(":")
    ):
        return
    raise ConfigurationError(
        "refused a settings file that another user can change",
        where=path,
        because=f"{reason}, and settings decide where results are stored and what code is imported",
        hint=f"if you trust it, export {SAFE_FOLDERS}={folder} (separate several folders with :, or use * for all); "
        "otherwise make the file your own (chown, chmod go-w)",
    )


def _parsed(path: str, data: bytes) -> dict[str, Any]:
    import tomllib  # only needed if there is a file

    try:
        return tomllib.loads(data.decode())
    except RecursionError as error:
        raise ConfigurationError(
            "a settings file is not valid TOML", where=path, because="it is nested too deeply"
        ) from error
    except ValueError as error:  # a TOMLDecodeError with line and column, or a UnicodeDecodeError
        line = re.search(r"line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else path
        raise ConfigurationError("a settings file is not valid TOML", where=where, because=str(error)) from error


def _upwards(folder: str) -> Iterable[str]:
    while True:
        yield folder
        parent = os.path.dirname(folder)
        if parent == folder:
            return
        folder = parent


def no_such_profile(name: str, origin: str, files: list[File]) -> ConfigurationError:
    """Return the error for a profile that none of the files has."""
    known = sorted({profile for file in files for profile in file.profiles})
    if known:
        return unknown("profile", name, known, origin)
    read = ", ".join(file.path for file in files)
    return ConfigurationError(
        f"there is no profile {name}",
        where=origin,
        because=f"{read} defines no profiles" if read else "there is no settings file",
        hint=f"add a table [profiles.{name}] to {FILE}",
        name=name,
    )
