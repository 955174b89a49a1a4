"""A namespace of locks in a Redis: the names of its keys, and what both sessions and managers do with them."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from penstock.locks.redis.listener import Listener
from penstock.locks.redis.scripts import END
from penstock.redis.client import RedisClient

T = TypeVar("T")

_LOCK = re.compile(rb"([\w-]{1,64}) ([0-9]{1,19}) ([0-9]{1,19})", re.ASCII)

_BATCH = 500
"""The number of keys in one call of a script, so that no call blocks Redis for long."""


class Namespace:
    """The keys with one prefix; see `scripts`."""

    def __init__(self, client: RedisClient, prefix: str) -> None:
        self.client = client
        self.prefix = prefix
        # One hash tag, so that a cluster keeps all keys on one node.
        self.root = f"{{{prefix}}}:"
        self.sessions = f"{self.root}sessions"
        self.info = f"{self.root}info"
        self.locks = f"{self.root}locks"
        self.fence = f"{self.root}fence"
        self.channels = f"{self.root}wake:"
        self._mutex = threading.Lock()
        self._pid = os.getpid()
        self._listener: Listener | None = None

    def held_by(self, session_id: str) -> str:
        return f"{self.root}held:{session_id}"

    def keys(self, session_id: str) -> list[str]:
        """Return the keys that most scripts need."""
        return [self.sessions, self.info, self.locks, self.fence, self.held_by(session_id)]

    def end(self, session_id: str, outcome: str) -> None:
        """Release all locks of a session and remove it. Without an outcome only if it is dead. Raises `LockError`."""
        keys = [self.sessions, self.info, self.locks, self.held_by(session_id)]
        while self.client.run(END, keys, [session_id, self.channels, outcome, _BATCH]):
            pass

    def listener(self) -> Listener:
        """Return the subscription of this process. A forked process creates its own."""
        if self._pid != os.getpid():
            self._mutex, self._pid, self._listener = threading.Lock(), os.getpid(), None
        with self._mutex:
            if self._listener is None:
                self._listener = Listener(self.client, self.channels)
            return self._listener


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield the items in batches for one call each."""
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def to_bytes(key: str) -> bytes:
    """Return a lock's key as Redis stores it. Any string is a key, including lone surrogates."""
    return key.encode("utf-8", "surrogatepass")


def to_text(key: bytes) -> str:
    """Return the key that `to_bytes` encoded. Bytes that are not text, which it does not write, become escapes."""
    try:
        return key.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return key.decode("utf-8", "backslashreplace")


def parsed(value: bytes) -> tuple[str, int, int] | None:
    """Return the session, the token and the time (in ms) of a lock; None if the scripts did not write this value."""
    if not (found := _LOCK.fullmatch(value)):
        return None
    session, token, since = found.groups()
    return session.decode(), int(token), int(since)
