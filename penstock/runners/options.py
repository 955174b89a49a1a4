"""Checks of the names and values with which runners are created."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from penstock.errors import ConfigurationError
from penstock.objects.texts import did_you_mean


def check_names(of: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `ConfigurationError` if a given option is not among the known ones."""
    known = list(dict.fromkeys(known))
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known, f"the options are {', '.join(known)}")
            raise ConfigurationError(f"{of} has no option {name!r}", hint=hint, name=name)


def check_options(of: str, given: Iterable[str], *takers: Callable[..., Any]) -> None:
    """Raise `ConfigurationError` if a given option is no parameter of functions, or of classes and their bases."""
    check_names(of, given, _names_of(takers))


def _names_of(takers: Iterable[Callable[..., Any]]) -> list[str]:
    """Return the names of all parameters of functions, or of classes and their bases."""
    functions = (f for taker in takers for f in (_inits(taker) if isinstance(taker, type) else [taker]))
    parameters = (each for f in functions for each in inspect.signature(f).parameters.values())
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [each.name for each in parameters if each.kind in named and each.name != "self"]


def _inits(cls: type) -> list[Callable[..., Any]]:
    return [vars(base)["__init__"] for base in cls.__mro__[:-1] if "__init__" in vars(base)]


def check_workers(workers: object) -> None:
    """Raise `ConfigurationError` if a number of workers is not a positive whole number."""
    if not isinstance(workers, int) or workers < 1:
        raise ConfigurationError(
            f"workers cannot be {workers!r}", because="it is the number of concurrent calls", hint="pass 1 or more"
        )
