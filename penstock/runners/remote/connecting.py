"""Connections to clusters: one that a thread keeps, and one that stays from run to run."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

from penstock.errors import RunnerError


class Keeper:
    """A thread that connects, stays, and disconnects. For clients whose processes die with the thread that began."""

    def __init__(
        self,
        connect: Callable[[], None],
        disconnect: Callable[[], None],
        *,
        patience: float,
        refusal: Callable[[str], RunnerError],
        name: str,
    ) -> None:
        """Raises what connecting raises, and `refusal(because)` if it takes longer than `patience` seconds."""
        self._connect, self._disconnect = connect, disconnect
        self._connected: Future[None] = Future()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)
        self._thread.start()
        try:
            self._connected.result(patience if patience < math.inf else None)
        except TimeoutError as error:
            self._over.set()  # if it comes about after all, it ends at once
            raise refusal(f"no connection came about within {patience:g} s") from error

    def end(self) -> None:
        """Disconnect; returns when that is done."""
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
    """A connection as `KeptConnection` sees it."""

    @property
    def alive(self) -> bool:
        """Whether it can still be used."""
        ...

    def close(self) -> None: ...


C = TypeVar("C", bound=Connected)


class KeptConnection(Generic[C]):
    """A connection that stays from one run to the next, and is made anew if it broke."""

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._guard = threading.Lock()
        self._connection: C | None = None

    def get(self) -> C:
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
