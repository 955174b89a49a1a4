"""One subscription for all waiting threads of a process, which passes released keys on to them.

One thread owns the connection, and does all reading and writing on it. A message on its own channel wakes it when it
must subscribe to new channels. Messages may be lost, so waiters do not rely on them: they also look after a while, and
whenever the connection broke.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, get_args

from penstock.errors import LockError
from penstock.locks.base import LockOutcome
from penstock.locks.redis.scripts import channel_of
from penstock.redis.client import RedisClient

IDLE_SECONDS = 10.0
"""A subscription without waiters ends after this many seconds."""
_PAUSES = (0.1, 5.0)
"""The pause between two tries to subscribe, in seconds: the first, doubled after each try up to the second."""

_log = logging.getLogger("penstock.locks")


@dataclass(eq=False, slots=True)
class Ear:
    """One waiting thread."""

    event: threading.Event
    heard: dict[bytes, LockOutcome | None] = field(default_factory=dict)
    broken: bool = False
    """Whether the connection broke, so that messages may have been missed."""


class Listener:
    """The subscription of one process to the wake-ups of one namespace."""

    def __init__(self, client: RedisClient, channels: str) -> None:
        """`channels` is the prefix of the names of its channels."""
        self._client = client
        self._channels = channels
        self._own = f"{channels}call:{uuid.uuid4().hex}"
        self._changed = threading.Condition()
        self._ears: dict[bytes, list[Ear]] = {}
        self._wanted: set[str] = set()
        self._confirmed: set[str] = set()
        self._thread: threading.Thread | None = None

    @contextmanager
    def listening(self, keys: Sequence[bytes], event: threading.Event) -> Iterator[Ear]:
        """Return a context manager that sets `event` when a lock of these keys is released during the block.

        The block begins when Redis has confirmed the subscription, or has not done so within the time for a call.
        """
        ear = Ear(event)
        needed = {f"{self._channels}{channel_of(key)}" for key in keys}
        with self._changed:
            for key in keys:
                self._ears.setdefault(key, []).append(ear)
        try:
            if needed:
                self._subscribe(needed)
            yield ear
        finally:
            with self._changed:
                for key in keys:
                    self._ears[key].remove(ear)
                    if not self._ears[key]:
                        del self._ears[key]

    def _subscribe(self, needed: set[str]) -> None:
        with self._changed:
            if needed <= self._confirmed:
                return
            self._wanted |= needed
            runs = self._thread is not None
            if not runs:
                self._thread = threading.Thread(target=self._run, name="penstock-listener", daemon=True)
                self._thread.start()
        if runs:
            try:
                self._client.call(lambda client, _: client.publish(self._own, b""))
            except LockError:
                return  # waiters look again by themselves
        with self._changed:
            self._changed.wait_for(lambda: needed <= self._confirmed, self._client.timeout)

    # -- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = _PAUSES[0]
        while True:
            try:
                subscription = self._client.subscription()
                try:
                    self._listen(subscription)
                finally:
                    subscription.close()
                return
            except Exception as error:  # noqa: BLE001 (after any failure a new connection is made)
                _log.debug("the subscription to released locks broke: %s: %s", type(error).__name__, error)
            with self._changed:
                answered = bool(self._confirmed)
                self._confirmed.clear()
                for ears in self._ears.values():
                    for ear in ears:
                        ear.broken = True
                        ear.event.set()
                if not self._ears:
                    self._end()
                    return
            pause = _PAUSES[0] if answered else min(2 * pause, _PAUSES[1])
            threading.Event().wait(pause)

    def _listen(self, subscription: Any) -> None:
        """Pass messages on until no thread waits. Raises what the connection raises."""
        subscribed = {self._own}
        subscription.subscribe(self._own)
        while True:
            with self._changed:
                missing = self._wanted - subscribed
            if missing:
                subscription.subscribe(*sorted(missing))
                subscribed |= missing
            message = subscription.get_message(timeout=IDLE_SECONDS)
            with self._changed:
                if message is None:
                    if not self._ears:
                        self._end()
                        return
                elif message["type"] == "subscribe":
                    self._confirmed.add(message["channel"].decode())
                    self._changed.notify_all()
                elif message["type"] == "message":
                    self._tell(message["data"])

    def _end(self) -> None:
        self._wanted.clear()
        self._confirmed.clear()
        self._thread = None

    def _tell(self, data: bytes) -> None:
        told, _, key = data.partition(b"\n")
        outcome = next((each for each in get_args(LockOutcome) if each.encode() == told), None)
        for ear in self._ears.get(key, ()):
            ear.heard[key] = outcome
            ear.event.set()
