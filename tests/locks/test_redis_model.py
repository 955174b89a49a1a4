"""Compare the model of the scripts with the scripts themselves, on a real server, with a clock that the test sets."""

from __future__ import annotations

import random
from typing import Any

import pytest

from penstock.locks.redis import scripts as redis_scripts
from penstock.locks.redis.namespace import Namespace
from penstock.locks.redis.scripts import ACQUIRE, BEAT, BREAK, END, KEEP_MS, LEFT, LOOK, RELEASE
from penstock.redis.client import Script
from tests.locks.model_redis import ModelRedis
from tests.servers.redis import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis")]

TOLD = "local t = redis.call('TIME')\n  return t[1] * 1000000 + t[2]"
SESSIONS = ["a" * 32, "b" * 32, "c" * 32]
KEYS = [b"k", b"l", b"odd \n\x00 key"]


def plain(answer: Any) -> Any:
    """Convert numbers that Lua wrote as text to the numbers of the model."""
    if isinstance(answer, list | tuple):
        return [plain(each) for each in answer]
    return int(answer) if isinstance(answer, bytes) and answer.isdigit() else answer


class Both:
    """Make the same calls on both."""

    def __init__(self, server: RedisServer, seed: int) -> None:
        import redis

        self.rng = random.Random(seed)
        self.space = Namespace(None, "penstock")  # type: ignore[arg-type]
        self.model = ModelRedis()
        self.client = redis.Redis(port=server.port)
        self.now = 1_700_000_000_000
        self.heard = self.client.pubsub(ignore_subscribe_messages=True)
        self.heard.subscribe(*(f"{self.space.channels}{n}" for n in range(redis_scripts.CHANNELS)), "end")

    def call(self, script: Script, keys: list[str], *arguments: Any) -> Any:
        assert TOLD in script.text
        text = script.text.replace(TOLD, f"return {self.now * 1000}")
        real = plain(self.client.eval(text, len(keys), *keys, *arguments))
        assert plain(self.model.run(script, keys, arguments, self.now)) == real, (script.text, arguments)
        return real

    def messages(self) -> list[bytes]:
        self.client.publish("end", "")
        told = []
        while True:
            message = self.heard.get_message(timeout=1)
            if message is not None and message["channel"] == b"end":
                return told
            told += [message["data"]] if message is not None else []

    def one_step(self) -> None:
        rng, space, model = self.rng, self.space, self.model
        self.now += rng.choice([0, 0, 1, 500, 4_000])
        session, key = rng.choice(SESSIONS), rng.choice(KEYS)
        token = rng.choice([0, *(token for _, token, _ in model.locks.values())])
        doing = rng.choice(["open", "beat", "beat", "acquire", "acquire", "acquire", "release", "end", "look", "break"])
        if doing in ("open", "beat"):
            info = '{"n": "1"}' if doing == "open" else ""
            self.call(BEAT, space.keys(session), session, 10_000, KEEP_MS, info)
        elif doing == "acquire":
            pairs = [part for each in rng.sample(KEYS, rng.randint(1, 3)) for part in (each, token)]
            self.call(ACQUIRE, space.keys(session), session, KEEP_MS, *pairs)
        elif doing == "release":
            outcome = rng.choice(["published", "failed"])
            self.call(RELEASE, [space.locks, space.held_by(session)], session, space.channels, outcome, key, token)
        elif doing == "end":
            keys = [space.sessions, space.info, space.locks, space.held_by(session)]
            self.call(END, keys, session, space.channels, rng.choice(["", "abandoned"]), 500)
        elif doing == "look":
            self.call(LOOK, [space.sessions, space.locks], *KEYS)
            self.call(LEFT, [space.sessions], session)
        else:
            self.call(BREAK, [space.locks], key, token, space.channels)


@pytest.mark.parametrize("seed", range(5))
def test_model_and_scripts_give_the_same_answers(redis_server: RedisServer, seed: int) -> None:
    redis_server.client().flushall()
    both = Both(redis_server, seed)
    for _ in range(400):
        both.one_step()
    # Keys of one session are freed in any order.
    assert sorted(both.messages()) == sorted(both.model.messages)
    assert len(both.model.messages) > 10
    both.heard.close()
    both.client.close()
