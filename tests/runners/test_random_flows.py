"""Compare random flows on threads with a model of their values, while stored bytes get lost."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.flows import flow
from penstock.graph.policies import INPUTS, IsolationLevel
from penstock.runners import ThreadRunner
from penstock.runs import Run
from penstock.runtime import task_run
from penstock.settings import load_settings
from penstock.tasks import Task, task

RETRIES = 2
SECONDS = 8.0
FLOWS = 10
"""The minimum number of flows, however long they take."""
PATIENCE = 240.0


class Boom(Exception):
    """The exception that tasks raise."""


def model_value(inputs: list[Any], n: int, form: str) -> Any:
    """Return the value of a call: a number, a list, or a text or list too long to be stored in a record."""
    total = (sum(each if isinstance(each, int) else len(each) for each in inputs) + n) % 100_003
    long = 9000 + total % 7
    return {"number": total, "list": [total] * (total % 7), "long text": "y" * long, "long list": [total, "y" * long]}[
        form
    ]


def body(inputs: list[Any], n: int, failures: int, form: str) -> Any:
    if task_run.run_count <= failures:
        raise Boom(n)
    time.sleep(random.random() * 0.003)
    return model_value(inputs, n, form)


def kind(name: str, **options: Any) -> Task[..., Any]:
    return task(name=name, key_name=name, retries=RETRIES, **options)(body)


KINDS = [
    kind("plain"),
    kind("cached", cache_policy=INPUTS),
    kind("locked", cache_policy=INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)),
]


def random_flow(rng: random.Random, store: Path) -> Callable[[], int]:
    """Return a flow function that calls tasks, reads some values in between, and checks all of them at its end.

    It changes each list that it has read, which no other future and no task may notice.
    """

    def look(future: Any, expected: Any) -> None:
        found = future.result(raise_on_failure=False)
        if isinstance(found, list) and found[-1:] == ["spoilt"]:
            found = found[:-1]  # by an earlier change through this very future
            assert id(future) in spoilt
        good = isinstance(found, Exception) if expected is Boom else found == expected
        assert good, f"{future!r} came to {found!r:.200}, not {expected!r:.50}"
        if isinstance(found, list) and id(future) not in spoilt:
            found.append("spoilt")
            spoilt.add(id(future))

    spoilt: set[int] = set()  # futures, all of which live as long as the flow function runs

    def function() -> int:
        futures: list[Any] = []
        expected: list[Any] = []
        for number in range(rng.randint(1, 25)):
            needs = rng.sample(range(number), min(number, rng.randint(0, 3)))
            # A hit waits for nothing, so whether a call fails with its predecessor depends on the store.
            sound = [each for each in range(number) if expected[each] is not Boom]
            after = rng.sample(sound, min(len(sound), 1)) if rng.random() < 0.1 else []
            n, failures = rng.randint(0, 4), rng.choice([0] * 12 + [1, 2, 5])
            form = rng.choice(["number"] * 4 + ["list", "long text", "long list"])
            call: Any = rng.choice(KINDS).submit
            inputs = [futures[each] for each in needs]
            futures.append(call(inputs, n, failures, form, wait_for=[futures[each] for each in after]))
            fails = failures > RETRIES or any(expected[each] is Boom for each in needs)
            expected.append(Boom if fails else model_value([expected[each] for each in needs], n, form))
            chance = rng.random()
            if chance < 0.2:
                each = rng.randrange(number + 1)
                look(futures[each], expected[each])
            elif chance < 0.23:
                lose_bytes(rng, store)
        for future, value in zip(futures, expected, strict=True):
            look(future, value)
        return len(futures)

    return function


def lose_bytes(rng: random.Random, store: Path) -> None:
    for payload in store.glob("results/*/*/*"):
        if not payload.name.endswith(".record.json") and rng.random() < 0.5:
            payload.unlink(missing_ok=True)


def run_within(function: Callable[[], int], store: Path) -> Run[Any]:
    runs: list[Run[Any]] = []
    bound: Any = flow(runner=ThreadRunner(3))(function)
    settings = load_settings(overrides={"store": str(store)})
    thread = threading.Thread(target=lambda: runs.append(bound.run_with({}, settings=settings)), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert runs, "it hangs"
    return runs[0]


@pytest.mark.slow
def test_random_flows_have_the_values_of_a_model_whatever_gets_lost(tmp_path: Path) -> None:
    first = random.SystemRandom().randrange(2**32)
    deadline = time.monotonic() + SECONDS
    count = 0
    while time.monotonic() < deadline or count <= FLOWS:
        seed = first + count
        print(f"seed {seed}, number {count} in one store")
        run = run_within(random_flow(random.Random(seed), tmp_path / "store"), tmp_path / "store")
        # A failure that nobody handled fails the run, as it should; all other values were checked.
        assert run.state == "completed" or isinstance(run.error, Boom), (seed, run.error)
        count += 1
