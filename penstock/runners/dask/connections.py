"""A connection to Dask: a separate client, with checked versions, for one or several runs."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from penstock.errors import RunnerError
from penstock.runners.dask.internals import connected_client
from penstock.runners.dask.worker import EVENT
from penstock.runners.remote.probing import check_speaks_first
from penstock.runners.remote.refusals import other_version
from penstock.runners.remote.workers.batching import Listeners

CONNECT_SECONDS = 5.0
"""How long to wait for an answer of the scheduler, in seconds."""
CLOSE_SECONDS = 10.0


class Connection:
    """A client whose scheduler and workers have the versions of this process, and the reports of workers by run."""

    def __init__(self, distributed: Any, address: str, options: Mapping[str, Any]) -> None:
        """Connect. Raises `RunnerError` if the scheduler does not answer or has other versions than this process."""
        try:
            options = {"timeout": CONNECT_SECONDS, **options, "set_as_default": False, "name": "penstock"}
            self.client = connected_client(distributed, address, close_seconds=CLOSE_SECONDS, **options)
        except Exception as error:
            raise _no_answer(address, f"{type(error).__name__}: {error}") from error
        self.listeners = Listeners()
        try:
            scheduler_python = _check_versions(self.client)
            _count_attempts_ourselves(distributed, self.client, scheduler_python)
            self.client.subscribe_topic(self.client.id, self._on_event)
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """The address of the scheduler."""
        return self.client.scheduler.address if self.client.scheduler is not None else ""

    @property
    def alive(self) -> bool:
        """Whether the connection can still be used."""
        return bool(self.client.status == "running")

    def workers(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the information of the scheduler about all its workers."""
        workers: Mapping[str, Mapping[str, Any]] = self.client.scheduler_info(n_workers=-1)["workers"]
        return workers

    def close(self) -> None:
        """Close the connection and end its threads."""
        with contextlib.suppress(Exception):  # the scheduler may be gone
            self.client.unsubscribe_topic(self.client.id)
        self.client.close(timeout=CLOSE_SECONDS)

    def _on_event(self, event: tuple[float, Any]) -> None:
        message = event[1]
        if isinstance(message, list | tuple) and message[0] == EVENT:  # the scheduler sends other events, too
            self.listeners.hear(message[1])


def check_answers(address: str, timeout: Any) -> None:
    """Raise `RunnerError` unless the server sends the first bytes, as Dask does. Dask's client would wait for ever."""
    try:
        place = urlsplit(address)
        if place.scheme != "tcp" or not place.hostname or not place.port or not isinstance(timeout, int | float):
            return
        check_speaks_first((place.hostname, place.port), timeout)
    except (OSError, ValueError) as error:
        raise _no_answer(address, f"{type(error).__name__}: {error}") from error


def _no_answer(address: str, because: str) -> RunnerError:
    return RunnerError(
        "the Dask scheduler does not answer",
        where=address,
        because=because,
        hint="look whether it runs there, and whether this machine may reach it",
    )


def _check_versions(client: Any) -> str:
    """Return the scheduler's version of Python.

    Raises `RunnerError` if the scheduler or one of its workers has other versions than this process.
    """
    found = client.get_versions()
    ours = found["client"]
    told: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [("the scheduler", found["scheduler"], ("distributed",))]
    told += [(f"the worker {a}", facts, ("distributed", "python")) for a, facts in (found["workers"] or {}).items()]
    for who, facts, names in told:
        for name in names:
            there, here = (_version(each, name) for each in (facts, ours))
            if there != here:
                raise other_version(who, name, there, here, where=client.scheduler.address)
    return _version(found["scheduler"], "python")


def _version(facts: dict[str, Any], name: str) -> str:
    """Return the part of a version that must be equal: year and month of Dask, major and minor version of Python."""
    full = facts["packages"].get(name) or "none"
    return ".".join(full.split(".")[:2])


def _count_attempts_ourselves(distributed: Any, client: Any, scheduler_python: str) -> None:
    """Make the scheduler give up a bundle when its worker dies, and the values of one that is done.

    The driver decides how often calls are tried, and compares recomputed values with lost ones. A scheduler that
    accepts no plugins, or has another Python, runs bundles up to `allowed-failures` times, and again for lost values.
    """

    class PenstockBundles(distributed.SchedulerPlugin):  # type: ignore[misc]  # local, so that it is sent by value
        name = "penstock-bundles"
        idempotent = True

        def __init__(self) -> None:
            self.bundles: dict[Any, Any] = {}

        def update_graph(self, scheduler: Any, *, client: str, keys: Any, **kwargs: Any) -> None:
            for key in keys if client.startswith("Client-penstock-") else ():
                if (task := scheduler.tasks.get(key)) is not None:
                    task.suspicious = scheduler.allowed_failures
                    if len(key) == 2:  # others only pick a value, or are data
                        self.bundles[key] = task

        def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
            task = self.bundles.pop(key, None) if finish in ("memory", "erred", "forgotten") else None
            if task is not None and finish == "memory":
                task.run_spec = None  # data from now on, which cannot be computed again

    if scheduler_python != ".".join(map(str, sys.version_info[:2])):
        return  # a class sent by value contains bytecode
    try:
        client.register_plugin(PenstockBundles())
    except Exception as error:  # noqa: BLE001 (whatever a scheduler has against plugins)
        logging.getLogger("penstock.runners").info("the Dask scheduler takes no plugin: %s", error)
