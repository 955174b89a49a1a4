"""Validation of settings: the allowed values of each one, and the errors for all others."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

from penstock.errors import ConfigurationError
from penstock.objects.texts import closest, did_you_mean, misspelt_url
from penstock.settings.urls import redacted

OnUnknown = Literal["fail", "recompute"]
OnLocksDown = Literal["fail", "run_unlocked"]
OnFailure = Literal["finish", "cancel", "keep_going"]
Isolation = Literal["serializable", "read_committed"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

PREFIX = "PENSTOCK_"

Said = dict[str, tuple[Any, str]]
"""Validated values by name, each with its origin."""


def _store(value: Any, folder: str) -> str:
    address = _address(value)
    if "://" in address:
        return address
    if meant := misspelt_url(address):
        raise ValueError(f"a URL or a folder: did you mean {meant}? A folder of that name is ./{address}")
    return path_from(address, folder)


def _locks(value: Any, folder: str) -> str:
    address = _address(value)
    # A bare word names a kind of lock manager, never a folder: a typo must not create locks in a new folder.
    is_folder = "://" not in address and (os.sep in address or address.startswith((".", "~")))
    return path_from(address, folder) if is_folder else address


def _address(value: Any) -> str:
    if isinstance(value, os.PathLike):
        value = os.path.join(".", os.fspath(value))
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a URL or a folder")
    return value


def _text(value: Any, folder: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a non-empty string")
    return value


def _is_number(value: Any) -> bool:
    """Return whether this is a finite number of plausible size."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _BEYOND


_BEYOND = 1e15


def _seconds(value: Any, folder: str) -> float:
    if not _is_number(value) or value <= 0:
        raise ValueError("a number of seconds greater than 0")
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
    if re.search(_KEY, place) and os.sep not in place:
        raise ValueError("the location of the keys, not a key: a file, or module:function")
    return place if ":" in place and os.sep not in place else path_from(place, folder)


_KEY = r"[0-9A-Fa-f]{32,}"


def _count(value: Any, folder: str) -> int:
    if not _is_number(value) or value < 1 or value != int(value):
        raise ValueError("a whole number of at least 1")
    return int(value)


def _on_unknown(value: Any, folder: str) -> str:
    return _one_of(get_args(OnUnknown), value)


def _on_locks_down(value: Any, folder: str) -> str:
    return _one_of(get_args(OnLocksDown), value)


def _on_failure(value: Any, folder: str) -> str:
    return _one_of(get_args(OnFailure), value)


def _isolation(value: Any, folder: str) -> str:
    return _one_of(get_args(Isolation), value.lower() if isinstance(value, str) else value)


def _log_level(value: Any, folder: str) -> str:
    return _one_of(get_args(LogLevel), value.upper() if isinstance(value, str) else value)


def _names(value: Any, folder: str) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ValueError("a list of logger names, or names separated by commas")
    return tuple(name.strip() for name in names if name.strip())


def _one_of(choices: tuple[str, ...], value: Any) -> str:
    if value not in choices:
        raise ValueError(f"one of {', '.join(choices)}")
    return str(value)


READERS: dict[str, Callable[[Any, str], Any]] = {
    "store": _store,
    "locks": _locks,
    "index": _text,
    "runner": _text,
    "lease_seconds": _seconds,
    "bundle_seconds": _seconds_or_none,
    "bundle_nodes": _count,
    "on_unknown": _on_unknown,
    "on_locks_down": _on_locks_down,
    "isolation": _isolation,
    "lock_wait_seconds": _seconds,
    "on_failure": _on_failure,
    "finish_seconds": _seconds,
    "signing_keys": _signing_keys,
    "require_signatures": _switch,
    "log_level": _log_level,
    "extra_loggers": _names,
    "profile": _text,
}
"""The validator of each setting. Its second argument is the folder against which relative paths resolve."""
ALL_BUT_PROFILE = [name for name in READERS if name != "profile"]


def said_as(values: Mapping[str, Any], origin: str, folder: str, *, known: Iterable[str] = READERS) -> Said:
    """Return the validated values of one origin. Raises `ConfigurationError` for an unknown name or invalid value."""
    said: Said = {}
    for name, value in values.items():
        if name not in known:
            raise unknown("setting", name, known, origin)
        if value is None:
            continue
        try:
            said[name] = (READERS[name](value, folder), origin)
        except ValueError as error:
            raise ConfigurationError(
                # An invalid signing_keys may be a key, which must not be printed.
                f"the setting {name} cannot be {'the given value' if name == 'signing_keys' else repr(shown(value))}",
                where=origin,
                because=f"it must be {error}",
                name=name,
            ) from None
    return said


def said_in(variables: Mapping[str, str], folder: str) -> Said:
    """Return the settings in environment variables.

    Unknown variables with the prefix may belong to other programs. Only likely misspellings are refused.
    """
    by_variable = {PREFIX + name.upper(): name for name in READERS}
    near = [*by_variable, f"{PREFIX}HOME", f"{PREFIX}SAFE_FOLDERS"]
    said: Said = {}
    for variable, text in variables.items():
        if name := by_variable.get(variable):
            if text:
                said |= said_as(
                    {name: _number(text) if name.endswith(("_seconds", "_nodes")) else text},
                    f"environment {variable}",
                    folder,
                )
        elif variable.startswith(PREFIX) and variable not in near and closest(variable, near, 0.92):
            raise unknown("variable", variable, near, "environment")
    return said


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def shown(value: Any) -> Any:
    """Return a value without secrets, for printing."""
    return redacted(value) if isinstance(value, str) else value


def path_from(path: str, folder: str) -> str:
    """Return the absolute path of `path` relative to `folder`."""
    return os.path.normpath(os.path.join(folder, os.path.expanduser(path)))


def working_folder() -> str:
    """Return the working folder. Raises `ConfigurationError` if it no longer exists."""
    try:
        return os.getcwd()
    except OSError as error:
        raise ConfigurationError(
            "the working folder no longer exists",
            because=error.strerror or str(error),
            hint="cd to a folder that exists",
        ) from error


def unknown(kind: str, name: str, known: Iterable[str], where: str) -> ConfigurationError:
    """Return the error for an unknown name, with the closest known one as the hint."""
    hint = did_you_mean(name, known, f"choose one of {', '.join(sorted(known))}")
    return ConfigurationError(f"there is no {kind} {name}", where=where, hint=hint, name=name)
