"""Errors of clusters, as Penstock reports them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from penstock.errors import RunnerError, is_a
from penstock.objects.chains import chain_of
from penstock.objects.texts import kind_of, text_of, told

GUARD = 'in a script, put the call of the flow under `if __name__ == "__main__":`'


def could_not_run(cluster: str, error: BaseException | None) -> RunnerError:
    """Return the error for a bundle that failed before its calls, whose own errors are outcomes."""
    if is_a(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in ("penstock", "cloudpickle"):
        return RunnerError(
            f"a {cluster} worker cannot import Penstock",
            because=str(error),
            hint="install the same Python and Penstock everywhere",
        )
    return RunnerError(
        f"{cluster} could not run a bundle of calls",
        because=f"{kind_of(error)}: {text_of(error)}".strip(),
        hint="workers need what your tasks import, in the versions that are here; the cluster's logs tell more",
    )


def did_not_start(cluster: str, make: Callable[..., Any], options: Iterable[str], error: Exception) -> RunnerError:
    """Return the error for a cluster that `make` could not start with these options."""
    checked = f"check {', '.join(options)}; " if options else ""
    where = getattr(make, "__name__", repr(make))
    because = told(chain_of(error)[-1])  # "failed to start" hides the reason
    return RunnerError(f"{cluster} did not start", where=where, because=because, hint=checked + GUARD)


def other_version(who: str, package: str, there: str, here: str, *, where: str) -> RunnerError:
    """Return the error for a part of the cluster with another version than this process."""
    return RunnerError(
        f"{who} has another version of {package} than this process",
        where=where,
        because=f"{there} there, {here} here",
        hint="install the same Python, Penstock and packages of the cluster everywhere",
    )
