"""What every command shares: the settings flags, `--json`, `--debug`, and where they are kept during one invocation."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(slots=True)
class Invocation:
    """One call of `penstock`: what its flags said."""

    flags: dict[str, Any] = field(default_factory=dict)
    """Settings by name, as `load_settings(flags=...)` takes them."""
    json: bool = False
    """One JSON document on standard output instead of text."""
    debug: bool = False
    """Whole tracebacks."""

    def settings(self) -> Any:
        """The settings that hold for this invocation; raises `ConfigurationError`."""
        from penstock.settings import load_settings

        return load_settings(flags=self.flags)

    def environment(self) -> Any:
        """The stores, locks and runner of those settings, opened on first need."""
        from penstock.environments import Environment

        return Environment(self.settings())

    def results(self) -> Any:
        """The results of the store, for commands that only read or remove.

        A store that a flag names must be there. Another one may not be used yet, which is told.
        """
        from penstock.cli.output import say
        from penstock.cli.stored import check_is_there
        from penstock.errors import UsageError

        results = self.environment().results()
        try:
            check_is_there(results.store)
        except UsageError as error:
            if self.flags.get("store"):
                raise
            say(f"note: nothing was ever stored in {error.where}; {error.hint}", err=True)
        return results


def own_options() -> frozenset[str]:
    """The options of the command that runs: a parameter of the flow with such a name can only be given with -p."""
    context = click.get_current_context(silent=True)
    return frozenset(option for each in context.command.params for option in each.opts) if context else frozenset()


_SETTINGS = {
    "--store": ("URL", "The store of results: a folder or a URL."),
    "--locks": ("URL", "The lock manager: a folder, `redis://host`, `store`, `memory`."),
    "--runner": (
        "ADDRESS",
        "Where tasks run: threads, processes, dask, ray, each with ?workers=N; dask+tcp://HOST:PORT, ray://HOST:PORT.",
    ),
    "--profile": ("NAME", "The profile of the settings files."),
}
GLOBAL_OPTIONS = (*_SETTINGS, "--json", "--debug")


def shared_options(command: Command) -> Command:
    """Add the settings flags and `--debug`. They may stand before or after the command's name; the last one counts."""
    for name, (metavar, text) in reversed(_SETTINGS.items()):
        command = click.option(name, metavar=metavar, help=text, expose_value=False, callback=_note_flag)(command)
    return click.option(
        "--debug",
        is_flag=True,
        help="Show complete tracebacks.",
        expose_value=False,
        is_eager=True,
        callback=_note_switch,
    )(command)


def json_option(command: Command) -> Command:
    """Add `--json`."""
    return click.option(
        "--json",
        is_flag=True,
        help="Print one JSON document.",
        expose_value=False,
        is_eager=True,
        callback=_note_switch,
    )(command)


def keep_going_option(command: Command) -> Command:
    """Add `--keep-going`."""
    return click.option(
        "--keep-going",
        "on_failure",
        flag_value="keep_going",
        default=None,
        help="If the flow fails, still run everything it has called.",
        expose_value=False,
        callback=_note_flag,
    )(command)


def _note_flag(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None:
        context.ensure_object(Invocation).flags[str(parameter.name)] = value


def _note_switch(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        setattr(context.ensure_object(Invocation), str(parameter.name), True)


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def as_seconds(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """Return the seconds of a duration such as 12h. The callback of an option."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a duration such as 12h, 30d or 4w", context, parameter)
    return float(match[1]) * _UNITS[match[2]]


def as_seconds_or_number(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """Return the seconds of a duration, or of a number without a unit. The callback of an option."""
    return as_seconds(context, parameter, f"{value}s" if re.fullmatch(r"\s*[\d.]+", value) else value)
