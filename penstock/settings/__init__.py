"""The settings of a run: one frozen value, read from where they were said, each with its origin.

The last of these that says something wins: default, user file, project file, environment, flag (of the command line),
call (in code). Each field of `Settings` is a key in the files and a variable `PENSTOCK_…` of the environment.

* The **home folder** is `~/.penstock`, or where `PENSTOCK_HOME` says. The user file is its `penstock.toml`, and its
  `store` is where results go if nothing else is said.
* The **project file** is the nearest `penstock.toml`, or `pyproject.toml` with a table `[tool.penstock]`, from the
  working folder upwards; of two in one folder it is `penstock.toml`.
* A **profile** is a table `[profiles.NAME]` of either file (`[tool.penstock.profiles.NAME]`). The chosen one wins over
  the plain keys of its own file.
* A folder is meant from where it is said: in a file from that file's folder, else from the working folder.
* An empty variable of the environment says nothing, and neither does None in a flag or a call.
* A file that belongs to somebody else, or that others can write to, is refused, but in folders that the variable
  PENSTOCK_SAFE_FOLDERS names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import Any

from penstock.runtime import having
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
    """One setting as people see it."""

    name: str
    value: str | float | bool | tuple[str, ...] | None
    """Without the secrets that a URL may hold."""
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """What `load_settings` found. A frozen value that is passed on; there is no global one."""

    store: str
    """Where results are kept: a URL, or the absolute path of a folder. By default `store` in the home folder."""
    locks: str | None = None
    """Who locks keys: a URL, a folder's absolute path, `store`, `memory`. None: the folder `locks` of a local store."""
    index: str | None = None
    """A look-up index for stores in buckets: the URL of a Redis. None: every record is read from the store."""
    runner: str = "threads"
    """Where tasks run: `threads`, `processes`, `dask`, `dask+tcp://…`, `ray`, `ray://…`."""
    lease_seconds: float = 30.0
    """The locks of a driver that gives no sign of life are free after so many seconds."""
    bundle_seconds: float = 0.1
    """Small tasks travel to workers in bundles that take about so long; 0 (or `off`) sends each by itself."""
    bundle_nodes: int = 4096
    """A bundle holds no more tasks than this, however small they are."""
    on_unknown: OnUnknown = "fail"
    """What happens when the store does not answer a look-up: the run fails, or the value is computed again."""
    on_locks_down: OnLocksDown = "fail"
    """What happens when the lock manager stays out of reach: the run fails, or tasks run without locks meanwhile."""
    isolation: Isolation = "serializable"
    """Tasks whose policy names no isolation level: of the runs that want a key one computes it, or each of them may."""
    lock_wait_seconds: float | None = None
    """A task that waits so long for somebody else to compute its key fails. None: as long as the other one lives."""
    on_failure: OnFailure = "finish"
    """What becomes of other calls when a flow fails: those that run are finished or cancelled, or all are run."""
    finish_seconds: float = 600.0
    """So long at most calls that run may take to finish when their flow has failed."""
    signing_keys: str | None = None
    """Where the keys are that sign results: a private file, or `module:function`. Never a key itself."""
    require_signatures: bool = False
    """Nothing is read that is not signed, not even a table."""
    log_level: LogLevel = "INFO"
    """From which level on logs are shown where the program itself handles none."""
    extra_loggers: tuple[str, ...] = ()
    """Other loggers whose records are shown with those of tasks and flows, and brought from worker processes."""
    profile: str | None = None
    """The profile these settings were read with."""
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where values were said, by name. What is not here is a default."""

    def origin(self, name: str) -> str:
        """Where a value comes from: `default`, `user file …`, `project file …`, `environment …`, `flag` or `call`."""
        return self.origins.get(name, "default")

    def describe(self) -> list[Described]:
        """Every setting with its origin, safe to print."""
        return [Described(name, shown(getattr(self, name)), self.origin(name)) for name in READERS]

    def with_values(self, **values: Any) -> Settings:
        """A copy with some values replaced, whose origin is then `call`. A None leaves a value as it is.

        Raises `ConfigurationError` for an unknown name or a value that does not fit. `profile` is not among the names:
        it only means something where files are read.
        """
        said = said_as(values, "call", working_folder(), known=ALL_BUT_PROFILE)
        origins = {**self.origins, **{name: origin for name, (_, origin) in said.items()}}
        return replace(self, **{name: value for name, (value, _) in said.items()}, origins=origins)

    def __reduce__(self) -> tuple[Any, ...]:
        # Settings go to workers, and a password must not: there it comes from the workers' own environment. Not by
        # `__getstate__`, which dataclasses with slots replace by their own before Python 3.11.4.
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
    """The settings that hold now, read anew on every call.

    `flags` are what the command line was given and `overrides` what code was given, by name; `cwd` and `environ` take
    the place of the working folder and of `os.environ`.

    Raises `ConfigurationError` that names the place: for a name nobody knows, a value that does not fit, a file that
    cannot be read, is no TOML or somebody else's, a profile that no file has.
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


_in_force: ContextVar[Settings | None] = ContextVar("penstock_settings", default=None)


def current_settings() -> Settings:
    """The settings of the run under way here, so that what it starts uses the same store; else as loaded."""
    return _in_force.get() or load_settings()


def in_force(settings: Settings | None) -> having:
    """What is started in this block uses these settings; None leaves it to `load_settings`."""
    return having(_in_force, settings)
