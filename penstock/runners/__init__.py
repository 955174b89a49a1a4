"""Where flows run. `runner_from` turns an address such as `threads?workers=8` into a runner."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl

from penstock.errors import ConfigurationError
from penstock.runners.base import Runner
from penstock.runners.local import ThreadRunner
from penstock.runners.processes import ProcessRunner

__all__ = ["ProcessRunner", "Runner", "ThreadRunner", "runner_from"]

_RUNNERS: dict[str, Callable[..., Runner]] = {"threads": ThreadRunner, "processes": ProcessRunner}


def runner_from(chosen: Runner | str) -> Runner:
    """The runner itself, or the one an address names: `threads`, `processes`, each with `?workers=N`.

    Raises `ConfigurationError` for an address of no known kind or with options it does not have.
    """
    if not isinstance(chosen, str):
        return chosen
    kind, _, query = chosen.partition("?")
    if kind not in _RUNNERS:
        raise ConfigurationError(
            f"no runner is called {chosen!r}", hint=f"there are {', '.join(sorted(_RUNNERS))}, such as threads?workers=8"
        )
    options = dict(parse_qsl(query, keep_blank_values=True))
    workers = options.pop("workers", None)
    if options or (workers is not None and not workers.isdigit()):
        raise ConfigurationError(f"cannot read the runner {chosen!r}", hint="write threads?workers=8")
    return _RUNNERS[kind](int(workers)) if workers is not None else _RUNNERS[kind]()
