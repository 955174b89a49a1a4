"""Connections to clusters: one that a thread keeps open, and one that several runs share."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

from penstock.errors import RunnerError


class Keeper:
    """A thread that connects, waits, and disconnects. For clients that end with the thread that connected."""

    def __init__(
        self,
        connect: Callable[[], None],
        disconnect: Callable[[], None],
        *,
        patience: float,
        refusal: Callable[[str], RunnerError],
        name: str,
    ) -> None:
        """Start the thread and wait for the connection.

        Args:
            connect: Connects. Called in the thread.
            disconnect: Disconnects. Called in the thread.
            patience: The longest time for connecting, in seconds.
            refusal: Returns the error for a connection that takes longer, with its reason as the argument.
            name: The name of the thread.

        Raises:
            RunnerError: The error of `refusal`. Other errors of `connect` pass unchanged.
        """
        self._connect, self._disconnect = connect, disconnect
        self._connected: Future[None] = Future()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)
        self._thread.start()
        try:
            self._connected.result(patience if patience < math.inf else None)
        except TimeoutError as error:
            self._over.set()  # a late connection is closed at once
            raise refusal(f"no connection came about within {patience:g} s") from error

    def end(self) -> None:
        """Disconnect, and wait until that is done."""
        self._over.set()
        self._thread.join()

    def _keep(self) -> None:
        try:
            self._connect()
        except BaseException as error:  # noqa: BLE001 (raised where the connection is asked for)
            self._connected.set_exception(error)
            return
        self._connected.set_result(None)
        self._over.wait()
        self._disconnect()


class Connected(Protocol):
    """A connection for `KeptConnection`."""

    @property
    def alive(self) -> bool:
        """Whether the connection can still be used."""
        ...

    def close(self) -> None: ...


C = TypeVar("C", bound=Connected)


class KeptConnection(Generic[C]):
    """A connection that several runs share. It is replaced if it broke."""

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._guard = threading.Lock()
        self._connection: C | None = None

    def get(self) -> C:
        """Return the connection, after connecting if necessary. Raises what connecting raises."""
        with self._guard:
            if self._connection is not None and not self._connection.alive:
                self._close()
            if self._connection is None:
                self._connection = self._connect()
            return self._connection

    def close(self) -> None:
        """Close the connection, if there is one."""
        with self._guard:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
