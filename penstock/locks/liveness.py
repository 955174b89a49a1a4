"""The session objects that heartbeats write into a SlotStore, and how other sessions detect that one is dead.

A session is dead

* at once, if its object does not exist: it was closed, or another session found it dead;
* at once, if it ran in a process of this machine that certainly no longer exists;
* otherwise when its counter did not change for a full lease, by the monotonic clock of the process that watches it.

The session of an object that cannot be read (after a power cut) is dead after the default lease without a change.

No two clocks are compared, and no time that another process wrote is used. The third rule is safe because a session
counts itself as lost 0.8 of a lease after it *sent* its last accepted beat. The watcher saw the counter of that beat
after it was sent, and begins its last look a full lease after that.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from penstock.clocks import Clock
from penstock.errors import LockError
from penstock.locks import documents
from penstock.locks.base import DEFAULT_LEASE_SECONDS
from penstock.process.identity import UNKNOWN, ProcessIdentity
from penstock.storage.stores.base import SlotStore

_FOLDER = "sessions/"
_DAMAGED_SECONDS = 3600.0
"""A damaged object that was not written for this many seconds is removed."""


@dataclass(frozen=True, slots=True)
class SessionObject:
    """The object that a session writes at every beat."""

    session_id: str
    counter: int
    lease_seconds: float
    info: dict[str, str]
    process: ProcessIdentity
    damaged: bool = False
    """Whether the object cannot be read, so that its session is unknown."""


class SessionRegistry:
    """The session objects of one store, and the counters that this process has seen."""

    def __init__(self, store: SlotStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._seen: dict[str, tuple[int, float]] = {}
        """For each session its last counter, and when it was first seen. Single reads and writes, so no mutex."""

    def write(self, session: SessionObject) -> None:
        fields = asdict(session)
        del fields["damaged"]
        data = json.dumps({"v": documents.FORMAT, **fields}).encode("ascii")
        self._store.put(_FOLDER + session.session_id, data, durable=False)  # a power cut also ends the session

    def read(self, session_id: str) -> SessionObject | None:
        return _decoded(session_id, self._store.get(_FOLDER + session_id))

    def remove(self, session_id: str) -> None:
        """Remove a session: its own when it closes, or a dead one *before* its locks are taken.

        A session that was only suspended finds its object missing at its next beat, even if its clock stood still too.
        """
        self._seen.pop(session_id, None)
        self._store.delete(_FOLDER + session_id)

    def seconds_left(self, session_ids: Iterable[str]) -> dict[str, float]:
        """Return for each session the seconds for which it may live without another beat; 0 if it is dead.

        Reads each session once. The first look at a living session gives it a full lease.
        """
        asked = list(dict.fromkeys(session_ids))
        before = self._clock.monotonic()
        found = self._store.get_many([_FOLDER + session_id for session_id in asked])
        objects = [_decoded(session_id, data) for session_id, data in zip(asked, found, strict=True)]
        after = self._clock.monotonic()
        for session_id, session in zip(asked, objects, strict=True):
            if session is None:
                self._seen.pop(session_id, None)
        return {
            session_id: 0.0 if session is None or session.process.is_gone() else self._left(session, before, after)
            for session_id, session in zip(asked, objects, strict=True)
        }

    def sweep(self) -> None:
        """Remove the objects of killed processes of this machine, and old damaged objects."""
        now = self._clock.now()
        entries = list(self._store.list(_FOLDER))
        for entry, data in zip(entries, self._store.get_many([entry.name for entry in entries]), strict=True):
            session = _decoded(entry.name.removeprefix(_FOLDER), data)
            old = session is not None and session.damaged and now - entry.modified >= _DAMAGED_SECONDS
            if session is not None and (old or session.process.is_gone()):
                self._store.delete(entry.name)

    def living(self) -> dict[str, float]:
        """Return all sessions that may be alive, with the seconds for which they may be. Leaves out damaged objects."""
        names = [entry.name for entry in self._store.list(_FOLDER)]
        objects = zip(names, self._store.get_many(names), strict=True)
        sessions = [_decoded(name.removeprefix(_FOLDER), data) for name, data in objects]
        left = self.seconds_left(session.session_id for session in sessions if session and not session.damaged)
        return {session_id: seconds for session_id, seconds in left.items() if seconds > 0}

    def unreadable(self) -> Iterator[tuple[str, str, float | None]]:
        """Yield the objects that cannot be read: name, reason, and the seconds since they were written.

        The seconds are by this machine's clock; None for an object of another version.
        """
        entries = list(self._store.list(_FOLDER))
        for entry, data in zip(entries, self._store.get_many([entry.name for entry in entries]), strict=True):
            try:
                session = _decoded(entry.name.removeprefix(_FOLDER), data)
            except LockError as error:
                yield entry.name, error.because, None
            else:
                if session is not None and session.damaged:
                    yield entry.name, "its session cannot be read", self._clock.now() - entry.modified

    def _left(self, session: SessionObject, before: float, after: float) -> float:
        counter, since = self._seen.get(session.session_id, (None, after))
        if counter != session.counter:
            # The time after the answer counts, and a look that began a lease later decides, so slow answers only
            # extend a session's life.
            since = after
            self._seen[session.session_id] = (session.counter, since)
        return min(session.lease_seconds, max(0.0, since + session.lease_seconds - before))


def _decoded(session_id: str, data: bytes | None) -> SessionObject | None:
    if data is None:
        return None
    fields = documents.fields_of(data, "a session object")
    try:
        if fields["session_id"] != session_id:
            raise documents.Damaged("another session's")
        return SessionObject(
            session_id=documents.identity(fields["session_id"]),
            counter=documents.count(fields["counter"]),
            lease_seconds=documents.lease(fields["lease_seconds"]),
            info=documents.info(fields.get("info")),
            process=documents.process(fields["process"]),
        )
    except (KeyError, documents.Damaged):
        # Any change of the bytes is a sign of life.
        return SessionObject(session_id, zlib.crc32(data), DEFAULT_LEASE_SECONDS, {}, _NOBODY, damaged=True)


_NOBODY = ProcessIdentity(UNKNOWN, UNKNOWN, UNKNOWN, 0, UNKNOWN)
