"""Where flows run. `runner_from` turns an address such as `threads?workers=8` into a runner."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_plus

from penstock.errors import ConfigurationError
from penstock.objects.texts import did_you_mean
from penstock.plugins import load_plugin, plugin_names
from penstock.runners.base import Engine, Runner
from penstock.runners.local.threads import ThreadRunner
from penstock.settings import redacted
from penstock.worker.messages import Bundle, Finished, Report, ShippedTask, Started, WorkerContext

if TYPE_CHECKING:
    from penstock.runners.dask.runner import DaskRunner
    from penstock.runners.local.processes import ProcessRunner
    from penstock.runners.ray.runner import RayRunner
    from penstock.worker.copies import copied
    from penstock.worker.execution import Worker

__all__ = [
    "Bundle",
    "DaskRunner",
    "Engine",
    "Finished",
    "ProcessRunner",
    "RayRunner",
    "Report",
    "Runner",
    "ShippedTask",
    "Started",
    "ThreadRunner",
    "Worker",
    "WorkerContext",
    "copied",
    "runner_from",
]


def _processes(**options: Any) -> Runner:
    from penstock.runners.local.processes import ProcessRunner  # slow to import

    return ProcessRunner(**options)


def _dask(**options: Any) -> Runner:
    from penstock.runners.dask.runner import DaskRunner

    return DaskRunner(**options)


def _dask_at(address: str, **options: Any) -> Runner:
    return _dask(address=address.removeprefix("dask+"), **options)


def _ray(address: str | None = None, *, workers: int | None = None, **options: Any) -> Runner:
    from penstock.runners.ray.runner import RayRunner

    return RayRunner(address, **options) if workers is None else RayRunner(address, num_cpus=workers, **options)


_ON_USE = {
    "DaskRunner": "penstock.runners.dask.runner",
    "ProcessRunner": "penstock.runners.local.processes",
    "RayRunner": "penstock.runners.ray.runner",
    "Worker": "penstock.worker.execution",
    "copied": "penstock.worker.copies",
}


def __getattr__(name: str) -> Any:
    if name in _ON_USE:
        return getattr(importlib.import_module(_ON_USE[name]), name)
    raise AttributeError(name)


_RUNNERS: dict[str, Callable[..., Runner]] = {
    "threads": ThreadRunner,
    "processes": _processes,
    "dask": _dask,
    "ray": _ray,
}
_DASK_PROTOCOLS = ("tcp", "tls", "ucx", "ws", "wss")
_CLUSTERS: dict[str, Callable[..., Runner]] = {
    **{f"dask+{protocol}": _dask_at for protocol in _DASK_PROTOCOLS},
    "ray": _ray,
}
"""Runners by the scheme of a cluster's address."""


def runner_from(chosen: Runner | str) -> Runner:
    """Return the runner at an address; a runner is returned unchanged.

    Args:
        chosen: A `Runner`; or `threads`, `processes`, `dask` or `ray`, each optionally with `?workers=N`; or the
            address of a cluster, `dask+tcp://host:8786` or `ray://host:10001`; or an address that a plugin registers.
            All accept `?ship=pkg,other`.

    Raises:
        ConfigurationError: The kind of runner or an option is unknown.
    """
    if not isinstance(chosen, str):
        return chosen
    scheme, separator, _ = chosen.partition("://")
    if separator and scheme in _CLUSTERS:
        address, shipped = _without_ship(chosen)
        _check_options(address, ())
        return _CLUSTERS[scheme](address, **shipped)
    given = chosen
    chosen, shipped = _without_ship(chosen)
    kind, _, query = chosen.partition("?")
    if kind not in _RUNNERS:
        if added := load_plugin("penstock.runners", scheme if separator else kind):
            runner: Runner = added(given)
            return runner
        known = [*_RUNNERS, *(f"{scheme}://" for scheme in _CLUSTERS), *plugin_names("penstock.runners")]
        raise ConfigurationError(
            f"there is no runner {chosen!r}",
            hint=f"use one of {', '.join(sorted(known))}, for example threads?workers=8",
        )
    _check_options(chosen, ("workers",))
    workers = dict(parse_qsl(query, keep_blank_values=True)).get("workers")
    if workers is not None and not workers.isdigit():
        raise ConfigurationError(
            f"invalid runner {chosen!r}",
            because="workers is not a whole number",
            hint="write, for example, threads?workers=8",
        )
    return _RUNNERS[kind](workers=int(workers), **shipped) if workers is not None else _RUNNERS[kind](**shipped)


def _check_options(address: str, known: Sequence[str]) -> None:
    """Raise `ConfigurationError` if an address has other options than these and `ship`, which is split off before."""
    for name, _ in parse_qsl(address.partition("?")[2], keep_blank_values=True):
        if name not in known:
            others = f"the options are {', '.join((*known, 'ship'))}" if known else "the only option is ship"
            raise ConfigurationError(
                f"this runner has no option {name!r}",
                where=redacted(address),
                hint=did_you_mean(name, (*known, "ship"), others),
                name=name,
            )


def _without_ship(address: str) -> tuple[str, dict[str, Any]]:
    """Split `ship=` off an address, and return it as an option."""
    base, _, query = address.partition("?")
    pairs = query.split("&") if query else []
    ship = [unquote_plus(pair.removeprefix("ship=")) for pair in pairs if pair.startswith("ship=")]
    if not ship:
        return address, {}
    others = "&".join(pair for pair in pairs if not pair.startswith("ship="))
    names = tuple(name for each in ship for name in each.split(",") if name)
    return f"{base}?{others}" if others else base, {"ship": names}
