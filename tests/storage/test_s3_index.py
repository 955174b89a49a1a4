"""Runs on a bucket with a lookup index in Redis: fewer requests and the same answers, whatever happens to the index."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, flow, load_settings
from penstock.storage import open_store
from penstock.storage.results.maintenance import ls
from penstock.storage.results.store import ResultStore
from penstock.testing.runners import tasks
from tests.servers.fixtures import Bucket
from tests.servers.proxy import FaultProxy
from tests.servers.redis import RedisServer

pytestmark = [pytest.mark.needs("s3fs", "boto3", "redis"), pytest.mark.slow, pytest.mark.timeout(300)]

NODES = 40
double = tasks.double.with_options(cache_policy=INPUTS - "log")
total = tasks.total.with_options(cache_policy=INPUTS - "log")


@flow
def many(log: str) -> int:
    return total(log, [double(log, i) for i in range(NODES)])


@flow
def doubles(log: str) -> list[int]:
    return [double(log, i) for i in range(NODES)]


class Scene:
    def __init__(self, bucket: Bucket, folder: Path, index: str | None, runner: str = "threads") -> None:
        self.log = str(folder)
        self.settings = load_settings(overrides={"store": bucket.url, "index": index, "runner": runner})

    def run(self, flow: Any = doubles) -> Any:
        return flow.run_with({"log": self.log}, settings=self.settings)

    def plan(self, flow: Any = doubles) -> dict[str, int]:
        counts: dict[str, int] = flow.plan_with({"log": self.log}, settings=self.settings).counts
        return counts


@pytest.mark.parametrize("runner", ["threads", "processes?workers=2"])
def test_published_results_are_planned_in_a_handful_of_requests(
    runner: str, bucket: Bucket, proxy: FaultProxy, redis_server: RedisServer, tmp_path: Path
) -> None:
    scene = Scene(bucket, tmp_path, redis_server.url, runner)
    assert scene.run().counts["executed"] == NODES
    before = len(proxy.seen)
    assert scene.plan()["hit"] == NODES
    assert len(proxy.seen) - before <= 5


def test_without_an_index_each_cached_node_takes_a_request(bucket: Bucket, proxy: FaultProxy, tmp_path: Path) -> None:
    scene = Scene(bucket, tmp_path, None)
    scene.run()
    before = len(proxy.seen)
    assert scene.plan()["hit"] == NODES
    assert len(proxy.seen) - before >= NODES


def test_a_flushed_index_is_filled_again_and_changes_no_answer(
    bucket: Bucket, proxy: FaultProxy, redis_server: RedisServer, tmp_path: Path
) -> None:
    scene = Scene(bucket, tmp_path, redis_server.url)
    scene.run()
    redis_server.client().flushall()
    assert scene.plan()["hit"] == NODES
    before = len(proxy.seen)
    assert scene.plan()["hit"] == NODES
    assert len(proxy.seen) - before <= 5


def test_an_unreachable_index_is_reported_once_per_run_and_changes_no_answer(
    bucket: Bucket, own_redis: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(bucket, tmp_path, own_redis.url)
    scene.run()
    own_redis.kill()
    with caplog.at_level(logging.WARNING, "penstock.store"):
        run = scene.run(many)
    assert run.result() == sum(2 * i for i in range(NODES))
    assert (run.counts["hit"], run.counts["executed"]) == (NODES, 1)
    assert sum("lookup index" in record.message for record in caplog.records) == 1


def test_a_result_invalidated_without_the_index_is_recomputed_by_a_run_with_it(
    bucket: Bucket, redis_server: RedisServer, tmp_path: Path
) -> None:
    scene = Scene(bucket, tmp_path, redis_server.url)
    scene.run()
    elsewhere = ResultStore(open_store(bucket.url))
    gone = next(iter(ls(elsewhere)))
    elsewhere.invalidate(gone.task, gone.key)
    run = scene.run()
    assert run.result() == [2 * i for i in range(NODES)]
    assert (run.counts["executed"], run.counts["hit"]) == (1, NODES - 1)


def test_the_password_of_the_index_is_sent_to_no_worker(bucket: Bucket, tmp_path: Path) -> None:
    import pickle

    settings = load_settings(overrides={"index": "redis://user:hunter2@127.0.0.1:1/0"})
    assert b"hunter2" not in pickle.dumps(settings)
    assert "hunter2" not in repr(settings)
