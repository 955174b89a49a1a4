"""The files of settings: where they are, what is in them, and which profiles."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.errors import ConfigurationError
from penstock.settings.values import ALL_BUT_PROFILE, Said, said_as, unknown

FILE = "penstock.toml"


@dataclass(frozen=True, slots=True)
class File:
    """A settings file: its plain keys and its profiles, checked."""

    path: str
    plain: Said
    profiles: dict[str, Said]


def files_of(home: str, folder: str) -> list[File]:
    """The files there are: the user's, then the project's."""
    user = os.path.join(home, FILE)
    found = [(user, "user file", _table(user))]
    for parent in _upwards(folder):
        own, shared = os.path.join(parent, FILE), os.path.join(parent, "pyproject.toml")
        if own == user:
            continue
        if (table := _table(own)) is not None:
            found.append((own, "project file", table))
            break
        if (table := _tool_table(shared)) is not None:
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


def _table(path: str, *, only_with: bytes = b"") -> dict[str, Any] | None:
    """The file as a table; None if there is none, or if it does not hold the bytes `only_with`."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise ConfigurationError(
            "cannot read a settings file", where=path, because=error.strerror or str(error)
        ) from error
    if only_with not in data:
        return None
    import tomllib  # only where there is a file to read

    try:
        return tomllib.loads(data.decode())
    except ValueError as error:  # TOMLDecodeError names line and column, UnicodeDecodeError the byte
        line = re.search(r"line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else path
        raise ConfigurationError("a settings file is no TOML", where=where, because=str(error)) from error


def _tool_table(path: str) -> dict[str, Any] | None:
    tools = (_table(path, only_with=b"penstock") or {}).get("tool", {})
    table = tools.get("penstock") if isinstance(tools, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigurationError(
            "tool.penstock is a table", where=path, hint="write [tool.penstock] and below it the keys"
        )
    return table


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
