"""Sessions with locks in Redis: when they call it, and what they do if it does not answer."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from penstock.clocks import JITTER, Clock
from penstock.errors import LockError, LocksUnreachable
from penstock.locks import documents
from penstock.locks.base import Holder, Lease, LockOutcome, Wakeup
from penstock.locks.redis.namespace import Namespace, batches, to_bytes
from penstock.locks.redis.scripts import ACQUIRE, BEAT, KEEP_MS, LEFT, LOOK, RELEASE
from penstock.locks.session_views import KeptAlive, SessionView
from penstock.locks.sessions import Heartbeat, own_leases

_LOOK_SECONDS = 5.0
"""The longest pause between two looks of a waiter, in seconds: a message may have been lost."""
_JITTER_SECONDS = (0.005, 0.05)
"""Added to the remaining lease of a holder, so that waiters do not all try at the same time."""


class _RedisSession(SessionView):
    """What a session and another process's view of it have in common."""

    _why_lost = "the session's lease ran out, or Redis has forgotten it"

    def __init__(self, space: Namespace, session_id: str, clock: Clock) -> None:
        super().__init__(session_id, clock)
        self._space = space
        self._client = space.client
        # Tokens whose release got no answer. The release may still arrive, so those leases are not used again.
        self._given_up: dict[str, int] = {}

    def _acquired(self, keys: Sequence[str]) -> list[Lease | Holder]:
        answers: list[Lease | Holder] = []
        for batch in batches(keys):
            arguments = [part for key in batch for part in (to_bytes(key), self._given_up.get(key, 0))]
            told = self._client.run(ACQUIRE, self._space.keys(self._id), [self._id, KEEP_MS, *arguments])
            if not told[0]:
                raise self._loss()
            answers += map(self._answer, batch, told[1:])
        return answers

    def _answer(self, key: str, told: list[Any]) -> Lease | Holder:
        if told[0]:
            return Lease(key, self._id, int(told[1]))
        _, session, token, since, info = told
        return Holder(key, session.decode(), int(token), info_of(info), int(since) / 1000)

    def free(self, keys: Sequence[str]) -> list[str]:
        return self._look({to_bytes(key): key for key in keys})[0]

    def release(self, leases: Iterable[Lease], outcome: LockOutcome) -> None:
        leases = own_leases(leases, self._id)
        if not leases or self.lost:
            return
        for batch in batches(leases):
            given_up = {lease.key: lease.fencing_token for lease in batch}
            self._given_up |= given_up
            pairs = [part for lease in batch for part in (to_bytes(lease.key), lease.fencing_token)]
            keys = [self._space.locks, self._space.held_by(self._id)]
            self._client.run(RELEASE, keys, [self._id, self._space.channels, outcome, *pairs])
            for key in given_up:
                self._given_up.pop(key, None)

    def wait_any(self, keys: Sequence[str], timeout: float) -> list[Wakeup]:
        deadline = self._clock.monotonic() + timeout
        by_name = {to_bytes(key): key for key in keys}
        with self._bell.listening() as event, self._space.listener().listening([*by_name], event) as ear:
            while True:
                # The subscription exists by now, so no later release is missed.
                free, soonest = self._look(by_name)
                left = deadline - self._clock.monotonic()
                pause = min(left, _LOOK_SECONDS, soonest + JITTER.uniform(*_JITTER_SECONDS))
                rung = not free and left > 0 and self._clock.wait(event, pause)
                if free or rung or self._clock.monotonic() >= deadline:
                    heard = {by_name[name]: outcome for name, outcome in list(ear.heard.items())}
                    if ear.broken and not heard:
                        heard = dict.fromkeys(keys)
                    return [Wakeup(key, outcome) for key, outcome in (dict.fromkeys(free) | heard).items()]

    def _look(self, by_name: dict[bytes, str]) -> tuple[list[str], float]:
        """Return the keys that are free, and the seconds until the lease of another key's holder may run out."""
        free, soonest = [], float("inf")
        for batch in batches(by_name):
            left = self._client.run(LOOK, [self._space.sessions, self._space.locks], batch)
            for name, ms in zip(batch, left, strict=True):
                if ms <= 0:
                    free.append(by_name[name])
                else:
                    soonest = min(soonest, ms / 1000)
        return free, soonest


class OwnSession(KeptAlive, _RedisSession):
    """A session with its heartbeat."""

    def __init__(
        self,
        space: Namespace,
        clock: Clock,
        info: dict[str, str],
        lease_seconds: float,
        on_lost: Callable[[], None] | None,
    ) -> None:
        super().__init__(space, uuid.uuid4().hex, clock)
        self._lease_ms = max(1, round(lease_seconds * 1000))
        self._told = json.dumps(info)
        self._heartbeat = Heartbeat(self._beat, lease_seconds=lease_seconds, clock=clock, on_lost=on_lost)
        self._heartbeat.start()

    def _beat(self) -> bool:
        told, self._told = self._told, ""
        try:
            alive, *dead = self._client.run(
                BEAT, self._space.keys(self._id), [self._id, self._lease_ms, max(KEEP_MS, 10 * self._lease_ms), told]
            )
        except LockError:
            self._told = told
            raise
        if alive:
            self._bury(dead)
        return bool(alive)

    def _bury(self, dead: list[bytes]) -> None:
        """Free the locks of dead sessions, so that waiters are notified."""
        for session in dead:
            try:
                self._space.end(session.decode(), "")
            except LockError:
                return  # this beat was accepted; the next one finds them again

    def close(self) -> None:
        if self._heartbeat.forked:
            return
        self._closed = True
        self._heartbeat.stop()
        self._bell.ring()
        try:
            self._space.end(self._id, "abandoned")
        except LocksUnreachable:
            if not self.lost:
                raise


class JoinedSession(_RedisSession):
    """A worker's view of a driver's session. Reading `lost` calls Redis."""

    @property
    def lost(self) -> bool:
        return bool(self._client.run(LEFT, [self._space.sessions], [self._id]) <= 0)


def info_of(data: bytes | None) -> dict[str, str]:
    """Return what a session states about itself."""
    try:
        return {} if data is None else documents.info(json.loads(data))
    except (ValueError, RecursionError):
        return {}  # for display only
