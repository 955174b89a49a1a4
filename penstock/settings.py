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
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from penstock.errors import ConfigurationError

OnUnknown = Literal["fail", "recompute"]
OnLocksDown = Literal["fail", "run_unlocked"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

_PREFIX = "PENSTOCK_"
_FILE = "penstock.toml"


@dataclass(frozen=True, slots=True)
class Described:
    """One setting as people see it."""

    name: str
    value: str | float | bool | None
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
    lock_wait_seconds: float | None = None
    """A task that waits so long for somebody else to compute its key fails. None: as long as the other one lives."""
    signing_keys: str | None = None
    """Where the keys are that sign results: a private file, or `module:function`. Never a key itself."""
    require_signatures: bool = False
    """Nothing is read that is not signed, not even a table."""
    log_level: LogLevel = "INFO"
    profile: str | None = None
    """The profile these settings were read with."""
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where values were said, by name. What is not here is a default."""

    def origin(self, name: str) -> str:
        """Where a value comes from: `default`, `user file …`, `project file …`, `environment …`, `flag` or `call`."""
        return self.origins.get(name, "default")

    def describe(self) -> list[Described]:
        """Every setting with its origin, safe to print."""
        return [Described(name, _shown(getattr(self, name)), self.origin(name)) for name in _READERS]

    def with_values(self, **values: Any) -> Settings:
        """A copy with some values replaced, whose origin is then `call`. A None leaves a value as it is.

        Raises `ConfigurationError` for an unknown name or a value that does not fit. `profile` is not among the names:
        it only means something where files are read.
        """
        said = _said(values, "call", _working_folder(), known=_ALL_BUT_PROFILE)
        origins = {**self.origins, **{name: origin for name, (_, origin) in said.items()}}
        return replace(self, **{name: value for name, (value, _) in said.items()}, origins=origins)

    def __getstate__(self) -> list[Any]:
        # Settings go to workers, and a password must not: there it comes from the workers' own environment.
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in ("locks", "index"):
            values[name] = without_password(values[name])
        return list(values.values())

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{each.name}={each.value!r}' for each in self.describe())})"


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
    cannot be read or is no TOML, a profile that no file has.
    """
    folder = os.path.abspath(cwd) if cwd is not None else _working_folder()
    variables = os.environ if environ is None else environ
    home = _path(variables.get(f"{_PREFIX}HOME") or "~/.penstock", folder)

    files = _files(home, folder)
    above = {
        **_said_in(variables, folder),
        **_said(flags or {}, "flag", folder),
        **_said(overrides or {}, "call", folder),
    }
    chosen = above.get("profile") or next((f.plain["profile"] for f in reversed(files) if "profile" in f.plain), None)

    said: _Said = {"store": (os.path.join(home, "store"), "default")}
    for file in files:
        said |= file.plain
        said |= file.profiles.get(chosen[0], {}) if chosen else {}
    said |= above
    if chosen and not any(chosen[0] in file.profiles for file in files):
        raise _no_such_profile(*chosen, files)
    return Settings(
        **{name: value for name, (value, _) in said.items()},
        origins={name: origin for name, (_, origin) in said.items()},
    )


def redacted(url: str) -> str:
    """A URL without the password of its user part and without the values of parameters that sound secret.

    Where `/`, `?` or `@` in a password make the end of it doubtful, too much is left out rather than too little.
    """
    if "://" not in url:
        return url
    return _SECRET_PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1***@", url))


def without_password(url: str | None) -> str | None:
    """A URL as it may travel: where it arrives, the password comes from the environment."""
    return _USER.sub(r"\1@", url) if url else url


_PASSWORD = re.compile(r"^([a-z][a-z0-9+.-]*://[^:/?#@]*:).*@", re.IGNORECASE | re.DOTALL)
_USER = re.compile(r"^([a-z][a-z0-9+.-]*://[^:/?#@]*):[^/?#]*@", re.IGNORECASE)
_SECRET_PARAMETER = re.compile(
    r"([?&](?:[^=&#]*(?:pass|pwd|secret|token|credential|signature|key)[^=&#]*|sig)=)[^&#]*", re.IGNORECASE
)

# --- what may be said, and how it is read ----------------------------------------------------------------------------

_Said = dict[str, tuple[Any, str]]
"""Checked values by name, each with its origin."""


def _store(value: Any, folder: str) -> str:
    address = _address(value)
    return address if "://" in address else _path(address, folder)


def _locks(value: Any, folder: str) -> str:
    address = _address(value)
    # A bare word is a kind of lock manager, never a folder: a mistyped one must not lock in a new place of its own.
    is_folder = "://" not in address and (os.sep in address or address.startswith((".", "~")))
    return _path(address, folder) if is_folder else address


def _address(value: Any) -> str:
    if isinstance(value, os.PathLike):
        value = os.path.join(".", os.fspath(value))
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a URL or a folder")
    return value


def _text(value: Any, folder: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text that is not empty")
    return value


def _seconds(value: Any, folder: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError("a number of seconds above 0")
    return float(value)


def _seconds_or_none(value: Any, folder: str) -> float:
    off = value == "off" or (value == 0 and not isinstance(value, bool))
    return 0.0 if off else _seconds(value, folder)


def _switch(value: Any, folder: str) -> bool:
    said = _SWITCHES.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(said, bool):
        raise ValueError("true or false")
    return said


_SWITCHES = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _signing_keys(value: Any, folder: str) -> str:
    place = _address(value)
    if _KEY.search(place) and os.sep not in place:
        raise ValueError("where the keys are, not a key: a file, or module:function")
    return place if ":" in place and os.sep not in place else _path(place, folder)


_KEY = re.compile(r"[0-9A-Fa-f]{32,}")


def _count(value: Any, folder: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 1 or value != int(value):
        raise ValueError("a whole number from 1")
    return int(value)


def _on_unknown(value: Any, folder: str) -> str:
    return _one_of(get_args(OnUnknown), value)


def _on_locks_down(value: Any, folder: str) -> str:
    return _one_of(get_args(OnLocksDown), value)


def _log_level(value: Any, folder: str) -> str:
    return _one_of(get_args(LogLevel), value.upper() if isinstance(value, str) else value)


def _one_of(choices: tuple[str, ...], value: Any) -> str:
    if value not in choices:
        raise ValueError(f"one of {', '.join(choices)}")
    return str(value)


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "store": _store,
    "locks": _locks,
    "index": _text,
    "runner": _text,
    "lease_seconds": _seconds,
    "bundle_seconds": _seconds_or_none,
    "bundle_nodes": _count,
    "on_unknown": _on_unknown,
    "on_locks_down": _on_locks_down,
    "lock_wait_seconds": _seconds,
    "signing_keys": _signing_keys,
    "require_signatures": _switch,
    "log_level": _log_level,
    "profile": _text,
}
"""What checks the value of each setting; the second argument is the folder that relative paths are meant from."""
_ALL_BUT_PROFILE = [name for name in _READERS if name != "profile"]


def _said(values: Mapping[str, Any], origin: str, folder: str, *, known: Iterable[str] = _READERS) -> _Said:
    said: _Said = {}
    for name, value in values.items():
        if name not in known:
            raise _unknown("setting", name, known, origin)
        if value is None:
            continue
        try:
            said[name] = (_READERS[name](value, folder), origin)
        except ValueError as error:
            raise ConfigurationError(
                # What is no place of keys may be a key.
                f"the setting {name} cannot be {'what it is' if name == 'signing_keys' else repr(_shown(value))}",
                where=origin,
                because=f"it has to be {error}",
                name=name,
            ) from None
    return said


def _said_in(variables: Mapping[str, str], folder: str) -> _Said:
    """What the environment says. Other programs' variables may begin alike; only near misses are refused."""
    by_variable = {_PREFIX + name.upper(): name for name in _READERS}
    near = [*by_variable, f"{_PREFIX}HOME"]
    said: _Said = {}
    for variable, text in variables.items():
        if name := by_variable.get(variable):
            if text:
                said |= _said(
                    {name: _number(text) if name.endswith(("_seconds", "_nodes")) else text},
                    f"environment {variable}",
                    folder,
                )
        elif (
            variable.startswith(_PREFIX) and variable not in near and difflib.get_close_matches(variable, near, 1, 0.92)
        ):
            raise _unknown("variable", variable, near, "environment")
    return said


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _shown(value: Any) -> Any:
    return redacted(value) if isinstance(value, str) else value


# --- folders and files -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _File:
    """A settings file: its plain keys and its profiles, checked."""

    path: str
    plain: _Said
    profiles: dict[str, _Said]


def _files(home: str, folder: str) -> list[_File]:
    """The files there are: the user's, then the project's."""
    user = os.path.join(home, _FILE)
    found = [(user, "user file", _table(user))]
    for parent in _upwards(folder):
        own, shared = os.path.join(parent, _FILE), os.path.join(parent, "pyproject.toml")
        if own == user:
            continue
        if (table := _table(own)) is not None:
            found.append((own, "project file", table))
            break
        if (table := _tool_table(shared)) is not None:
            found.append((shared, "project file", table))
            break
    return [_checked(path, f"{kind} {path}", table) for path, kind, table in found if table is not None]


def _checked(path: str, origin: str, table: Mapping[str, Any]) -> _File:
    folder = os.path.dirname(path)
    profiles = table.get("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(values, dict) for values in profiles.values()):
        raise ConfigurationError(
            "profiles are tables", where=origin, hint="write [profiles.NAME] and below it the keys"
        )
    return _File(
        path,
        _said({name: value for name, value in table.items() if name != "profiles"}, origin, folder),
        {
            name: _said(values, f"{origin}, profile {name}", folder, known=_ALL_BUT_PROFILE)
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


def _path(path: str, folder: str) -> str:
    return os.path.normpath(os.path.join(folder, os.path.expanduser(path)))


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError as error:
        raise ConfigurationError(
            "the working folder is gone", because=error.strerror or str(error), hint="cd to a folder that is there"
        ) from error


# --- in a run --------------------------------------------------------------------------------------------------------


_in_force: ContextVar[Settings | None] = ContextVar("penstock_settings", default=None)


def current_settings() -> Settings:
    """The settings of the run under way here, so that what it starts uses the same store; else as loaded."""
    return _in_force.get() or load_settings()


@contextmanager
def in_force(settings: Settings | None) -> Iterator[None]:
    """What is started in this block uses these settings; None leaves it to `load_settings`."""
    token = _in_force.set(settings)
    try:
        yield
    finally:
        _in_force.reset(token)


# --- errors ----------------------------------------------------------------------------------------------------------


def _unknown(kind: str, name: str, known: Iterable[str], where: str) -> ConfigurationError:
    close = difflib.get_close_matches(name, list(known), 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"
    return ConfigurationError(f"no {kind} is called {name}", where=where, hint=hint, name=name)


def _no_such_profile(name: str, origin: str, files: list[_File]) -> ConfigurationError:
    known = sorted({profile for file in files for profile in file.profiles})
    if known:
        return _unknown("profile", name, known, origin)
    read = ", ".join(file.path for file in files)
    return ConfigurationError(
        f"no profile is called {name}",
        where=origin,
        because=f"no profiles are in {read}" if read else "there is no settings file",
        hint=f"add a table [profiles.{name}] to {_FILE}",
        name=name,
    )
