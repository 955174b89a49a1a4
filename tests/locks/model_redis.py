"""The scripts of `redis_scripts` in Python, for simulations. `test_redis_model.py` compares them with a real server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.locks.redis import scripts as redis_scripts
from penstock.redis.client import Script


@dataclass
class ModelRedis:
    """The content of one namespace, and what each script does with it. Times are in ms."""

    sessions: dict[str, float] = field(default_factory=dict)
    info: dict[str, str] = field(default_factory=dict)
    locks: dict[bytes, tuple[str, int, int]] = field(default_factory=dict)
    held: dict[str, dict[bytes, None]] = field(default_factory=dict)
    fence: int = 0
    messages: list[bytes] = field(default_factory=list)
    """Messages published since the last read."""
    issued: list[tuple[bytes, int]] = field(default_factory=list)
    """Keys and tokens issued since the last read."""

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any], now: int) -> Any:
        """Run a script and return the answer that the client gets."""
        names = {
            redis_scripts.BEAT: self._beat,
            redis_scripts.ACQUIRE: self._acquire,
            redis_scripts.RELEASE: self._release,
            redis_scripts.END: self._end,
            redis_scripts.LOOK: self._look,
            redis_scripts.LEFT: self._left,
            redis_scripts.BREAK: self._break,
        }
        return names[script](now, *arguments)

    def left(self, session: str, now: int) -> int:
        return int(self.sessions.get(session, now) - now)

    def _tell(self, key: bytes, outcome: str) -> None:
        self.messages.append(outcome.encode() + b"\n" + key)

    def _beat(self, now: int, session: str, lease: int, keep: int, info: str) -> Any:
        if info:
            self.info[session] = info
        elif self.left(session, now) <= 0:
            return [0]
        self.sessions[session] = now + lease
        dead = sorted((ends, name) for name, ends in self.sessions.items() if ends <= now)
        return [1, *(name.encode() for _, name in dead[:10])]

    def _acquire(self, now: int, me: str, keep: int, *pairs: Any) -> Any:
        if self.left(me, now) <= 0:
            return [0]
        answers: list[Any] = [1]
        for key, given_up in zip(pairs[::2], pairs[1::2], strict=True):
            session, token, since = self.locks.get(key, (None, 0, 0))
            if session == me and token != given_up:
                answers.append([1, token])
            elif session not in (None, me) and self.alive_for_others(str(session), now):
                answers.append([0, str(session).encode(), token, since, self.info.get(str(session), "{}").encode()])
            else:
                self.fence = self.next_token(token, now)
                self.locks[key] = (me, self.fence, now)
                self.issued.append((key, self.fence))
                self.held.setdefault(me, {})[key] = None
                answers.append([1, self.fence])
        return answers

    def alive_for_others(self, session: str, now: int) -> bool:
        return self.left(session, now) > 0

    def next_token(self, token: int, now: int) -> int:
        return max(self.fence + 1, token + 1, now * 1000)

    def _release(self, now: int, me: str, channels: str, outcome: str, *pairs: Any) -> int:
        released = 0
        for key, token in zip(pairs[::2], pairs[1::2], strict=True):
            if self.may_release(key, me, token):
                self.locks.pop(key, None)
                self.held.get(me, {}).pop(key, None)
                self._tell(key, outcome)
                released += 1
        return released

    def may_release(self, key: bytes, me: str, token: int) -> bool:
        return self.locks.get(key, (None, 0, 0))[:2] == (me, token)

    def _end(self, now: int, session: str, channels: str, outcome: str, most: int) -> int:
        if outcome:
            if session in self.sessions:
                self.sessions[session] = 0
        elif self.left(session, now) > 0:
            return 0
        held = self.held.get(session, {})
        for key in list(held)[:most]:
            del held[key]
            if self.locks.get(key, (None,))[0] == session:
                del self.locks[key]
                self._tell(key, outcome)
        if held:
            return 1
        self.held.pop(session, None)
        self.sessions.pop(session, None)
        self.info.pop(session, None)
        return 0

    def _look(self, now: int, *keys: bytes) -> Any:
        holders = [self.locks.get(key) for key in keys]
        return [0 if holder is None else self.left(holder[0], now) for holder in holders]

    def _left(self, now: int, session: str) -> int:
        return self.left(session, now)

    def _break(self, now: int, key: bytes, token: int, channels: str) -> int:
        if self.locks.get(key, (None, None))[1] != token:
            return 0
        del self.locks[key]
        self._tell(key, "abandoned")
        return 1
