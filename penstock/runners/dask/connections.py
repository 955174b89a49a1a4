"""A connection to Dask: a client of our own, with the versions checked, that one or several runs use."""

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
"""A scheduler that does not answer within so long counts as dead."""
CLOSE_SECONDS = 10.0


class Connection:
    """A client whose scheduler and workers have our versions, and what workers tell of bundles, by run."""

    def __init__(self, distributed: Any, address: str, options: Mapping[str, Any]) -> None:
        """Raises `RunnerError` if nobody answers at the address, or with other versions than this process."""
        fixed = {"set_as_default": False, "name": "penstock"}
        try:
            options = {"timeout": CONNECT_SECONDS, **options, **fixed}
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
        """The scheduler's."""
        return self.client.scheduler.address if self.client.scheduler is not None else ""

    @property
    def alive(self) -> bool:
        """Whether it can still be used."""
        return bool(self.client.status == "running")

    def workers(self) -> Mapping[str, Mapping[str, Any]]:
        """What the scheduler says of all its workers."""
        workers: Mapping[str, Mapping[str, Any]] = self.client.scheduler_info(n_workers=-1)["workers"]
        return workers

    def close(self) -> None:
        """End the connection and its threads."""
        with contextlib.suppress(Exception):  # the scheduler may be gone
            self.client.unsubscribe_topic(self.client.id)
        self.client.close(timeout=CLOSE_SECONDS)

    def _on_event(self, event: tuple[float, Any]) -> None:
        message = event[1]
        if isinstance(message, list | tuple) and message[0] == EVENT:  # the scheduler tells things of its own, too
            self.listeners.hear(message[1])


def check_answers(address: str, timeout: Any) -> None:
    """Raise `RunnerError` unless something there speaks first, as Dask does: its client would wait for it for ever."""
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
    """Raise `RunnerError` if the scheduler, or a worker that is there, cannot work together with this process.

    Returns the scheduler's version of Python.
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
    """The part of a version that has to be the same: year and month of Dask, major and minor of Python."""
    full = facts["packages"].get(name) or "none"
    return ".".join(full.split(".")[:2])


def _count_attempts_ourselves(distributed: Any, client: Any, scheduler_python: str) -> None:
    """Have the scheduler give up a bundle of ours with the worker that died under it, instead of running it again.

    How often a call is tried is the driver's decision. This touches nothing but the tasks of Penstock's clients. A
    scheduler that takes no plugins, or has another Python, does as Dask does: it runs a bundle again up to
    `distributed.scheduler.allowed-failures` times before it tells.
    """

    class PenstockAttempts(distributed.SchedulerPlugin):  # type: ignore[misc]  # local, so that it travels by value
        name = "penstock-attempts"
        idempotent = True

        def update_graph(self, scheduler: Any, *, client: str, keys: Any, **kwargs: Any) -> None:
            if client.startswith("Client-penstock-"):
                for key in keys:
                    task = scheduler.tasks.get(key)
                    if task is not None:
                        task.suspicious = scheduler.allowed_failures

    if scheduler_python != ".".join(map(str, sys.version_info[:2])):
        return  # what travels by value is bytecode
    try:
        client.register_plugin(PenstockAttempts())
    except Exception as error:  # noqa: BLE001 (whatever a scheduler has against plugins)
        logging.getLogger("penstock.runners").info("the Dask scheduler takes no plugin: %s", error)
