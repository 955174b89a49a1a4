"""The files of settings: where they are, whose they are, what is in them, and which profiles.

Settings decide where results go, what runs them and which function is imported for the signing keys, and a file may lie
in any folder above the working one. So one that somebody else wrote, or can write to, is refused and not obeyed.
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
"""The variable that names folders whose settings are read whoever wrote them, with `:` between them; `*` for all."""
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class File:
    """A settings file: its plain keys and its profiles, checked."""

    path: str
    plain: Said
    profiles: dict[str, Said]


def files_of(home: str, folder: str, safe: str) -> list[File]:
    """The files there are: the user's, then the project's. `safe` is what `SAFE_FOLDERS` says."""
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
            "profiles are tables", where=origin, hint="write [profiles.NAME] and below it the keys"
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
    """The file as a table; None if there is none."""
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
    _refuse_foreign(path, read[1], safe)  # not before: a foreign file that does not speak of us is nobody's concern
    if not isinstance(table, dict):
        raise ConfigurationError(
            "tool.penstock is a table", where=path, hint="write [tool.penstock] and below it the keys"
        )
    return table


def _read(path: str) -> tuple[bytes, os.stat_result] | None:
    """What the file holds and whose it is; None if there is none, or a folder."""
    try:
        # Without waiting, should it be a pipe.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(file, "rb") as opened:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.ENXIO, "it is no file")
            data = opened.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise ConfigurationError(
            "cannot read a settings file", where=path, because=error.strerror or str(error)
        ) from error
    if len(data) > _MAX_BYTES:
        raise ConfigurationError("a settings file is too long", where=path, because=f"{_MAX_BYTES} bytes are the limit")
    return data, found


def _refuse_foreign(path: str, found: os.stat_result, safe: str) -> None:
    reason = others_can_change(found)
    folder = os.path.dirname(path)
    if not reason or any(
        each == "*" or (each and os.path.realpath(each) == os.path.realpath(folder)) for each in safe.split(":")
    ):
        return
    raise ConfigurationError(
        "refused the settings of somebody else",
        where=path,
        because=f"{reason}, and settings say where results go and what code is imported",
        hint=f"if you trust them, export {SAFE_FOLDERS}={folder} (several with a : between them, * for all); or "
        "make the file your own (chown, chmod go-w)",
    )


def _parsed(path: str, data: bytes) -> dict[str, Any]:
    import tomllib  # only where there is a file to read

    try:
        return tomllib.loads(data.decode())
    except RecursionError as error:
        raise ConfigurationError("a settings file is no TOML", where=path, because="it is nested too deep") from error
    except ValueError as error:  # TOMLDecodeError names line and column, UnicodeDecodeError the byte
        line = re.search(r"line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else path
        raise ConfigurationError("a settings file is no TOML", where=where, because=str(error)) from error


def _upwards(folder: str) -> Iterable[str]:
    while True:
        yield folder
        parent = os.path.dirname(folder)
        if parent == folder:
            return
        folder = parent


def no_such_profile(name: str, origin: str, files: list[File]) -> ConfigurationError:
    """For a profile that none of the files has."""
    known = sorted({profile for file in files for profile in file.profiles})
    if known:
        return unknown("profile", name, known, origin)
    read = ", ".join(file.path for file in files)
    return ConfigurationError(
        f"no profile is called {name}",
        where=origin,
        because=f"no profiles are in {read}" if read else "there is no settings file",
        hint=f"add a table [profiles.{name}] to {FILE}",
        name=name,
    )
