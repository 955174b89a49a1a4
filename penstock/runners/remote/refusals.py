"""Errors of clusters, as Penstock reports them."""

from __future__ import annotations

from penstock.errors import RunnerError, is_a
from penstock.objects.texts import kind_of, text_of


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


def other_version(who: str, package: str, there: str, here: str, *, where: str) -> RunnerError:
    """Return the error for a part of the cluster with another version than this process."""
    return RunnerError(
        f"{who} has another version of {package} than this process",
        where=where,
        because=f"{there} there, {here} here",
        hint="install the same Python, Penstock and packages of the cluster everywhere",
    )
