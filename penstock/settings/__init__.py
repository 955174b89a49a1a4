"""The settings of a run: one frozen value, read from several sources, with the origin of each setting.

Sources, later ones overriding earlier ones: default, user file, project file, environment, flag (of the command line),
call (in code). Each field of `Settings` is a key in the files and an environment variable `PENSTOCK_…`.

* The **home folder** is `~/.penstock`, or the value of `PENSTOCK_HOME`. It holds the user file `penstock.toml`, and the
  folder `store`, which is the default store.
* The **project file** is the nearest `penstock.toml`, or `pyproject.toml` with a table `[tool.penstock]`, in the
  working folder or a folder above it. `penstock.toml` takes precedence within a folder.
* A **profile** is a table `[profiles.NAME]` of either file (`[tool.penstock.profiles.NAME]`). The selected profile
  overrides the other keys of its own file.
* Relative paths resolve against the folder of the file that sets them, else against the working folder.
* Empty environment variables are ignored, and so is None in a flag or a call.
* Files that another user owns or can write to are refused, except in the folders that PENSTOCK_SAFE_FOLDERS lists.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import Any

from penstock.runtime import having, own_variable
from penstock.settings.files import SAFE_FOLDERS, files_of, no_such_profile
from penstock.settings.urls import redacted, without_password
from penstock.settings.values import (
    ALL_BUT_PROFILE,
    PREFIX,
    READERS,
    Isolation,
    LogLevel,
    OnFailure,
    OnLocksDown,
    OnUnknown,
    Said,
    path_from,
    said_as,
    said_in,
    shown,
    working_folder,
)

__all__ = [
    "Described",
    "Isolation",
    "LogLevel",
    "OnFailure",
    "OnLocksDown",
    "OnUnknown",
    "Settings",
    "current_settings",
    "in_force",
    "load_settings",
    "redacted",
    "without_password",
]


@dataclass(frozen=True, slots=True)
class Described:
    """One setting, safe to print."""

    name: str
    value: str | float | bool | tuple[str, ...] | None
    """The value, without the secrets of a URL."""
    origin: str
    """Where it was set, as in `Settings.origin`."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """All settings of a run, as `load_settings` returns them. Immutable; there is no global instance."""

    store: str
    """Where results are stored: a URL, or the absolute path of a folder. Defaults to `store` in the home folder."""
    locks: str | None = None
    """The lock manager: a URL, a folder's absolute path, `store` or `memory`. None: the folder `locks` of a local
    store, else locks in the store."""
    index: str | None = None
    """The URL of a Redis that indexes the records of a bucket. None: every record is read from the bucket."""
    runner: str = "threads"
    """Where tasks run: `threads`, `processes`, `dask`, `dask+tcp://…`, `ray`, `ray://…`."""
    lease_seconds: float = 30.0
    """How long locks outlive the last heartbeat of their driver, in seconds."""
    bundle_seconds: float = 0.1
    """The target duration of a bundle of small tasks, in seconds; 0 or `off` sends each task by itself."""
    bundle_nodes: int = 4096
    """The most tasks in a bundle."""
    on_unknown: OnUnknown = "fail"
    """If the store does not answer a lookup: fail the run, or recompute the value."""
    on_locks_down: OnLocksDown = "fail"
    """If the lock manager stays unreachable: fail the run, or run tasks without locks meanwhile."""
    isolation: Isolation = "serializable"
    """For policies without an isolation level: one of several concurrent runs computes a key, or each of them may."""
    lock_wait_seconds: float | None = None
    """How long a task may wait for another run to compute its key before it fails. None: while that run is alive."""
    on_failure: OnFailure = "finish"
    """If a flow fails: finish the calls that are running, cancel them, or run all remaining calls."""
    finish_seconds: float = 600.0
    """How long running calls of a failed flow may take to finish, in seconds."""
    signing_keys: str | None = None
    """Where the keys that sign results are: a private file, or `module:function`. Never a key itself."""
    require_signatures: bool = False
    """Refuse every result without a valid signature, whatever its format."""
    log_level: LogLevel = "INFO"
    """The lowest level of records that are shown if the program has no log handler."""
    extra_loggers: tuple[str, ...] = ()
    """Other loggers whose records are shown like those of tasks, and forwarded from worker processes."""
    profile: str | None = None
    """The profile these settings were read with."""
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where settings were set, by name. Names that are missing have their default."""

    def origin(self, name: str) -> str:
        """Return where a setting was set.

        Returns:
            `default`, `user file …`, `project file …`, `environment …`, `flag` or `call`.
        """
        return self.origins.get(name, "default")

    def describe(self) -> list[Described]:
        """Return every setting with its origin, safe to print."""
        return [Described(name, shown(getattr(self, name)), self.origin(name)) for name in READERS]

    def with_values(self, **values: Any) -> Settings:
        """Return a copy with some settings replaced. Their origin is `call`.

        Args:
            **values: Settings by name, except `profile`, which only has a meaning when files are read. None keeps the
                present value.

        Raises:
            ConfigurationError: A name is unknown or a value is invalid.
        """
        said = said_as(values, "call", working_folder(), known=ALL_BUT_PROFILE)
        origins = {**self.origins, **{name: origin for name, (_, origin) in said.items()}}
        return replace(self, **{name: value for name, (value, _) in said.items()}, origins=origins)

    def __reduce__(self) -> tuple[Any, ...]:
        # Settings are sent to workers without passwords, which workers read from their own environment. Not as
        # `__getstate__`, which dataclasses with slots replace with their own before Python 3.11.4.
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in ("locks", "index"):
            values[name] = without_password(values[name])
        return _rebuilt, (values,)

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{each.name}={each.value!r}' for each in self.describe())})"


def _rebuilt(values: dict[str, Any]) -> Settings:
    return Settings(**values)


def load_settings(
    *,
    cwd: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Read the settings from all sources. Every call reads them again.

    Args:
        cwd: The folder in which the search for a project file starts. Defaults to the working folder.
        environ: The environment variables. Defaults to `os.environ`.
        flags: Settings by name from the command line. They override all but `overrides`.
        overrides: Settings by name from code. They override everything else.

    Raises:
        ConfigurationError: A name is unknown, a value is invalid, a file is unreadable, is not TOML or belongs to
            another user, or the profile does not exist. The error says where.
    """
    folder = os.path.abspath(cwd) if cwd is not None else working_folder()
    variables = os.environ if environ is None else environ
    home = path_from(variables.get(f"{PREFIX}HOME") or "~/.penstock", folder)

    files = files_of(home, folder, variables.get(SAFE_FOLDERS) or "")
    above = {
        **said_in(variables, folder),
        **said_as(flags or {}, "flag", folder),
        **said_as(overrides or {}, "call", folder),
    }
    chosen = above.get("profile") or next((f.plain["profile"] for f in reversed(files) if "profile" in f.plain), None)

    said: Said = {"store": (os.path.join(home, "store"), "default")}
    for file in files:
        said |= file.plain
        said |= file.profiles.get(chosen[0], {}) if chosen else {}
    said |= above
    if chosen and not any(chosen[0] in file.profiles for file in files):
        raise no_such_profile(*chosen, files)
    return Settings(
        **{name: value for name, (value, _) in said.items()},
        origins={name: origin for name, (_, origin) in said.items()},
    )


_in_force: ContextVar[Settings | None] = own_variable("penstock_settings", None)


def current_settings() -> Settings:
    """Return the settings of the run around this code, or else those that `load_settings` reads."""
    return _in_force.get() or load_settings()


def in_force(settings: Settings | None) -> having:
    """Make the settings those of the block; None leaves them to `load_settings`."""
    return having(_in_force, settings)
