"""Runs that share a key: one of them is killed or stopped at a chosen moment, or many start at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from penstock import flow
from penstock.storage import open_store
from penstock.storage.results.maintenance import gc
from penstock.storage.results.store import ResultStore
from tests.locks import shared_work
from tests.locks.drivers import LEASE_SECONDS, PATIENCE, Scene

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis")]

SLACK = 60.0
"""The delay that a busy machine may add to what is promised."""
LARGE = "20000"
"""The length of a value that has its own file."""


def payloads(scene: Scene) -> list[Path]:
    store = Path(scene.environment["PENSTOCK_STORE"])
    return [path for path in store.glob("results/*/*/*") if not path.name.endswith(".record.json")]


def test_a_driver_killed_before_its_record_leaves_one_payload_to_collect(scene: Scene) -> None:
    victim = scene.driver(1, SHARED_SIZE=LARGE, SHARED_SECONDS="0.5", SHARED_DIE="before")
    heir = scene.driver(1, SHARED_SIZE=LARGE)
    victim.go()
    scene.wait_for_executions(1)
    heir.go()
    victim.popen.wait()
    killed = time.monotonic()
    answer = heir.answer()
    assert answer["ended"] - killed < LEASE_SECONDS + 1 + SLACK
    assert scene.executions() == {"0": 2}
    assert len(payloads(scene)) == 2
    assert gc(ResultStore(open_store(scene.environment["PENSTOCK_STORE"])), grace_seconds=0.0).payloads == 1
    assert len(payloads(scene)) == 1
    assert shared_work.shared.run([0]).result() == {0: answer["result"]["0"]}


def test_a_driver_killed_after_its_record_causes_no_second_execution(scene: Scene) -> None:
    victim = scene.driver(1, SHARED_SECONDS="0.5", SHARED_DIE="after")
    heir = scene.driver(1)
    victim.go()
    scene.wait_for_executions(1)
    heir.go()
    victim.popen.wait()
    killed = time.monotonic()
    answer = heir.answer()
    assert answer["ended"] - killed < LEASE_SECONDS + 1 + SLACK
    assert scene.executions() == {"0": 1}
    assert answer["counts"]["executed"] == 0


def test_a_driver_stopped_past_its_lease_adopts_the_result_says_so_and_cleans_up(scene: Scene) -> None:
    stopped = scene.driver(1, SHARED_SIZE=LARGE, SHARED_SECONDS="1")
    heir = scene.driver(1, SHARED_SIZE=LARGE)
    stopped.go()
    scene.wait_for_executions(1)
    stopped.popen.send_signal(signal.SIGSTOP)
    heir.go()
    result = heir.answer()["result"]
    stopped.popen.send_signal(signal.SIGCONT)
    answer = stopped.answer()
    assert answer["result"] == result
    assert answer["locks_lost"] == 1
    assert len(payloads(scene)) == 1, "the payload of who came second is still there"


def test_a_driver_that_continues_before_its_rival_has_published_wins(scene: Scene) -> None:
    stopped = scene.driver(1, SHARED_SECONDS="0.2")
    rival = scene.driver(1, SHARED_SECONDS="4")
    stopped.go()
    scene.wait_for_executions(1)
    stopped.popen.send_signal(signal.SIGSTOP)
    rival.go()
    scene.wait_for_executions(2)
    stopped.popen.send_signal(signal.SIGCONT)
    first, second = stopped.answer(), rival.answer()
    assert first["ended"] < second["ended"]
    assert first["result"] == second["result"]
    values = scene.notes.read_text().split()[1::2]
    assert first["result"]["0"] == values[0], "the result of who published first"


def test_32_threads_that_need_one_key_run_it_once(scene: Scene) -> None:
    results: list[str] = []
    start = threading.Barrier(32)

    def want() -> None:
        start.wait()
        results.append(shared_work.shared.run([0]).result()[0])

    threads = [threading.Thread(target=want) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert scene.executions() == {"0": 1}
    assert len(results) == 32
    assert len(set(results)) == 1


def test_16_processes_that_need_one_key_run_it_once_and_all_learn_of_it(scene: Scene) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.locks.swarm", "16"]
    environment = {**os.environ, "SHARED_SECONDS": "3"}  # until all of them wait
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, timeout=PATIENCE, check=True)
    answers = json.loads(done.stdout)
    assert scene.executions() == {"0": 1}
    assert len(answers) == 16
    assert len({answer["result"]["0"] for answer in answers}) == 1
    ends = [answer["ended"] for answer in answers]
    assert max(ends) - min(ends) < 1 + SLACK


def test_runs_that_need_two_keys_in_opposite_orders_both_end(scene: Scene) -> None:
    @flow
    def one_by_one(keys: list[int]) -> list[str]:
        return [shared_work.work(key).result() for key in keys]

    results: dict[int, list[str]] = {}

    def run(which: int) -> None:
        keys = [key ^ which for key in range(20)]  # 0 1 2 3 …, and 1 0 3 2 … …
        results[which] = sorted(one_by_one.run(keys).result())

    threads = [threading.Thread(target=run, args=[which]) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert results[0] == results[1]
    assert scene.executions() == {str(key): 1 for key in range(20)}
