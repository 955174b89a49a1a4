"""A lock manager that does not answer: it is asked again by a thread of its own, so that no driver waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from penstock.clocks import Clock
from penstock.errors import LockError, LocksUnreachable

ASK_AGAIN_SECONDS = 1.0
"""Between two tries of a lock manager that does not answer."""


class Outage:
    """How long a manager has not answered, and the keys that are to be woken when it does."""

    def __init__(
        self,
        ask: Callable[[], object],
        *,
        on_wake: Callable[[str], None],
        patience: float,
        clock: Clock,
    ) -> None:
        """`ask` makes one call of the manager, from any thread. After `patience` seconds the keys are woken in any
        case, so that whoever wants them learns the error."""
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
        """True if the patience is over."""
        return self._clock.monotonic() - self._since > self._patience

    @property
    def asking(self) -> bool:
        """True while there is no answer, and a call would be in vain."""
        return self._asking

    def join(self, keys: Iterable[str]) -> bool:
        """Have the keys woken with the others; False if nobody is asking any more: then a call is worth a try."""
        with self._mutex:
            if self._asking:
                self._keys.update(keys)
            return self._asking

    def ask_for(self, keys: Iterable[str]) -> None:
        """A call has failed: ask until there is an answer, and wake the keys then."""
        with self._mutex:
            self._keys.update(keys)
            if self._asking or self._closed.is_set():
                return
            self._asking = True
        threading.Thread(target=self._run, name="penstock-asking", daemon=True).start()

    def close(self) -> None:
        """Wake nobody any more."""
        self._closed.set()

    def _run(self) -> None:
        while not self._clock.wait(self._closed, ASK_AGAIN_SECONDS):
            try:
                self._ask()
            except LocksUnreachable:
                if not self.too_long:
                    continue
            except LockError:
                pass  # whoever is woken meets the same trouble, and reports it
            break
        with self._mutex:
            self._asking = False
            keys, self._keys = sorted(self._keys), set()
        if not self._closed.is_set():
            for key in keys:
                self._on_wake(key)
