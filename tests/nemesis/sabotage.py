"""Stores, locks and collectors with one mistake each, which a campaign must find."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from penstock.locks import Lease, LockManager, Session
from penstock.locks.base import Holder, Wakeup
from penstock.storage.records.encoding import decode_slot_at
from penstock.storage.records.names import key_folder, slot_in
from penstock.storage.records.records import ResultRecord
from penstock.storage.results.maintenance import Collected
from penstock.storage.results.store import ResultStore

SABOTAGES = {
    "overwrites": {"I1", "I3", "I4"},
    "deletes": {"I1", "I5"},
    "collects openly": {"I2"},
    "never lost": {"I6"},
    "counts for itself": {"I7"},
    "hears nothing": {"I9"},
    "stays": {"I10"},
}
"""What may be wrong, and the invariants that break with it."""


def sabotaged_results(results: ResultStore, sabotage: str) -> ResultStore:
    store = results.store
    if sabotage == "overwrites":

        def write_anyway(name: str, data: bytes) -> bool:
            store.put(name, data)
            return True

        store.put_if_absent = write_anyway  # type: ignore[method-assign]
    if sabotage == "deletes":

        def delete(task: str, key: str, reason: str = "invalidated") -> bool:
            found = results.look_up(task, key)
            store.delete(slot_in(key_folder(task, key), found.generation))
            return True

        results.invalidate = delete  # type: ignore[method-assign]
    return results


def sabotaged_collection(results: ResultStore, *, grace_seconds: float) -> Collected:
    """Delete every payload that no record names, without closing anything."""
    files = [file.name for file in results.store.list("results/")]
    named = set()
    for name in files:
        if name.endswith(".record.json"):
            data = results.store.get(name)
            slot = None if data is None else decode_slot_at(data, name)
            if isinstance(slot, ResultRecord):
                named.add(slot.payload_name)
    report = Collected()
    for name in files:
        if not name.endswith(".record.json") and name not in named:
            results.store.delete(name)
            report.payloads += 1
    return report


def sabotaged_manager(manager: LockManager, sabotage: str) -> LockManager:
    session = _SESSIONS.get(sabotage)
    return manager if session is None else _Wrapped(manager, session)


class _Wrapped:
    def __init__(self, manager: LockManager, session: Callable[[Session], Any]) -> None:
        self._manager = manager
        self._session = session

    def open_session(self, **options: Any) -> Any:
        return self._session(self._manager.open_session(**options))


class _Session:
    def __init__(self, session: Session) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class _NeverLost(_Session):
    """Remain the holder whatever the heartbeat returns."""

    lost = False


class _CountsForItself(_Session):
    """Number its own leases from 1."""

    _count = 0

    def try_acquire(self, keys: Sequence[str]) -> list[Lease | Holder]:
        return [self._numbered(answer) for answer in self._session.try_acquire(keys)]

    def _numbered(self, answer: Lease | Holder) -> Lease | Holder:
        if isinstance(answer, Holder):
            return answer
        self._count += 1
        self._real = answer
        return Lease(answer.key, answer.session_id, self._count)

    def release(self, leases: Sequence[Lease], outcome: Any) -> None:
        self._session.release([self._real], outcome)


class _HearsNothing(_Session):
    """Wait for the full time, whatever happens."""

    def wait_any(self, keys: Sequence[str], timeout: float) -> list[Wakeup]:
        time.sleep(timeout)
        return []


class _Stays(_Session):
    """Ignore `close`: the heartbeat continues and the locks stay held."""

    def close(self) -> None:
        pass


_SESSIONS = {
    "never lost": _NeverLost,
    "counts for itself": _CountsForItself,
    "hears nothing": _HearsNothing,
    "stays": _Stays,
}
