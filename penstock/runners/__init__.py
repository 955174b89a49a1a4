"""Where flows run. `runner_from` turns an address such as `threads?workers=8` into a runner."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from penstock.errors import ConfigurationError
from penstock.runners.base import Runner
from penstock.runners.local import ThreadRunner

if TYPE_CHECKING:
    from penstock.runners.processes import ProcessRunner

__all__ = ["ProcessRunner", "Runner", "ThreadRunner", "runner_from"]


def _processes(**options: Any) -> Runner:
    from penstock.runners.processes import ProcessRunner  # what it imports costs time that most runs need not pay

    return ProcessRunner(**options)


def __getattr__(name: str) -> Any:
    if name == "ProcessRunner":
        from penstock.runners.processes import ProcessRunner

        return ProcessRunner
    raise AttributeError(name)


_RUNNERS: dict[str, Callable[..., Runner]] = {"threads": ThreadRunner, "processes": _processes}


def runner_from(chosen: Runner | str) -> Runner:
    """The runner itself, or the one an address names: `threads`, `processes`, each with `?workers=N`.

    Raises `ConfigurationError` for an address of no known kind or with options it does not have.
    """
    if not isinstance(chosen, str):
        return chosen
    kind, _, query = chosen.partition("?")
    if kind not in _RUNNERS:
        raise ConfigurationError(
            f"no runner is called {chosen!r}",
            hint=f"there are {', '.join(sorted(_RUNNERS))}, such as threads?workers=8",
        )
    options = dict(parse_qsl(query, keep_blank_values=True))
    workers = options.pop("workers", None)
    if options or (workers is not None and not workers.isdigit()):
        raise ConfigurationError(f"cannot read the runner {chosen!r}", hint="write threads?workers=8")
    return _RUNNERS[kind](workers=int(workers)) if workers is not None else _RUNNERS[kind]()
