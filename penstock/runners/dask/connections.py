"""Connections to Dask: a client of our own, with the versions checked, that one or several runs use."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from penstock.errors import RunnerError
from penstock.runners.dask.event_batching import EVENT

CONNECT_SECONDS = 5.0
"""A scheduler that does not answer within so long counts as dead."""
CLOSE_SECONDS = 10.0

Listen = Callable[[str, int, bytes], None]
"""Called with what happened, to which bundle, and the outcomes; in the thread of the client."""


class Connection:
    """A client whose scheduler and workers have our versions, and what workers tell of bundles, by run."""

    def __init__(self, distributed: Any, address: str, options: Mapping[str, Any]) -> None:
        """Raises `RunnerError` if nobody answers at the address, or with other versions than this process."""
        self.client = _connect(distributed, address, options)
        self._listeners: dict[str, Listen] = {}
        try:
            scheduler_python = _check_versions(self.client)
            _count_attempts_ourselves(distributed, self.client, scheduler_python)
            self.client.subscribe_topic(self.topic, self._on_event)
        except BaseException:
            self.close()
            raise

    @property
    def topic(self) -> str:
        """Where workers tell of bundles."""
        topic: str = self.client.id
        return topic

    @property
    def alive(self) -> bool:
        """Whether it can still be used."""
        return bool(self.client.status == "running")

    def listen(self, run: str, listener: Listen) -> None:
        """Hear of the bundles of a run until `leave`."""
        self._listeners[run] = listener

    def leave(self, run: str) -> None:
        """Nobody wants to hear of the run's bundles any more."""
        self._listeners.pop(run, None)

    def close(self) -> None:
        """End the connection and its threads."""
        with contextlib.suppress(Exception):  # the scheduler may be gone
            self.client.unsubscribe_topic(self.topic)
        self.client.close(timeout=CLOSE_SECONDS)

    def _on_event(self, event: tuple[float, Any]) -> None:
        message = event[1]
        if not isinstance(message, list | tuple) or message[0] != EVENT:
            return  # the scheduler tells things of its own on this topic
        for run, what, bundle, content in message[1]:
            listener = self._listeners.get(run)
            if listener is not None:
                listener(what, bundle, content)


class KeptConnection:
    """A connection that stays from one run to the next, and is made anew if it broke."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._guard = threading.Lock()
        self._connection: Connection | None = None

    def get(self) -> Connection:
        """Raises what connecting raises."""
        with self._guard:
            if self._connection is not None and not self._connection.alive:
                self._close()
            if self._connection is None:
                self._connection = self._connect()
            return self._connection

    def close(self) -> None:
        """End the connection, if there is one."""
        with self._guard:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def check_answers(address: str, timeout: Any) -> None:
    """Raise `RunnerError` unless something there speaks first, as Dask does: its client would wait for it for ever."""
    try:
        place = urlsplit(address)
        if place.scheme != "tcp" or not place.hostname or not place.port or not isinstance(timeout, int | float):
            return
        with socket.create_connection((place.hostname, place.port), timeout=timeout) as connection:
            if not connection.recv(1):
                raise ConnectionError("what listens there hangs up")
    except (OSError, ValueError) as error:
        raise _no_answer(address, f"{type(error).__name__}: {error}") from error


def _no_answer(address: str, because: str) -> RunnerError:
    return RunnerError(
        "the Dask scheduler does not answer",
        where=address,
        because=because,
        hint="look whether it runs there, and whether this machine may reach it",
    )


def _connect(distributed: Any, address: str, options: Mapping[str, Any]) -> Any:
    # Its __init__ starts a thread and connects; who has no hold of it cannot end the thread if that fails.
    client = distributed.Client.__new__(distributed.Client)
    try:
        client.__init__(address, **{"timeout": CONNECT_SECONDS, **options, "set_as_default": False, "name": "penstock"})
    except Exception as error:
        with contextlib.suppress(Exception):
            client.close(timeout=CLOSE_SECONDS)
            client._loop_runner.stop()  # a client that never was connected counts as closed, and leaves it running
        raise _no_answer(address, f"{type(error).__name__}: {error}") from error
    return client


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
                raise RunnerError(
                    f"{who} has another version of {name} than this process",
                    where=client.scheduler.address,
                    because=f"{there} there, {here} here",
                    hint="install the same Python, distributed and Penstock everywhere",
                )
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
