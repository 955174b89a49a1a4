"""Outages of a lock manager: a separate thread asks again, so that the driver does not wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from penstock.clocks import Clock
from penstock.errors import LockError, LocksUnreachable

ASK_AGAIN_SECONDS = 1.0
"""The interval between two attempts, in seconds."""


class Outage:
    """An outage of a lock manager, and the keys to wake when it ends."""

    def __init__(
        self,
        ask: Callable[[], object],
        *,
        on_wake: Callable[[str], None],
        patience: float,
        clock: Clock,
    ) -> None:
        """`ask` calls the manager once, from any thread. After `patience` seconds the keys are woken in any case, so
        that their nodes get the error."""
        self._ask = ask
        self._on_wake = on_wake
        self._patience = patience
        self._clock = clock
        self._since = clock.monotonic()
        self._mutex = threading.Lock()
        self._closed = threading.Event()
        self._asking = False
        self._keys: set[str] = set()

    @property
    def too_long(self) -> bool:
        """Whether the outage lasts longer than the patience."""
        return self._clock.monotonic() - self._since > self._patience

    @property
    def asking(self) -> bool:
        """Whether there is no answer yet, so that a call would be pointless."""
        return self._asking

    def join(self, keys: Iterable[str]) -> bool:
        """Wake these keys with the others. Return False if the outage is over, so that a call should be tried."""
        with self._mutex:
            if self._asking:
                self._keys.update(keys)
            return self._asking

    def ask_for(self, keys: Iterable[str]) -> None:
        """Start asking after a failed call, and wake the keys when there is an answer."""
        with self._mutex:
            self._keys.update(keys)
            if self._asking or self._closed.is_set():
                return
            self._asking = True
        threading.Thread(target=self._run, name="penstock-asking", daemon=True).start()

    def close(self) -> None:
        """Stop asking and waking."""
        self._closed.set()

    def _run(self) -> None:
        while not self._clock.wait(self._closed, ASK_AGAIN_SECONDS):
            try:
                self._ask()
            except LocksUnreachable:
                if not self.too_long:
                    continue
            except LockError:
                pass  # the nodes that are woken get the same error and report it
            break
        with self._mutex:
            self._asking = False
            keys, self._keys = sorted(self._keys), set()
        if not self._closed.is_set():
            for key in keys:
                self._on_wake(key)
