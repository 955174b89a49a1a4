"""Tasks of imported modules: on every runner, they and the functions that they call use the same module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNNERS = [
    "threads",
    "processes?workers=1",
    pytest.param("dask?workers=1", marks=[pytest.mark.slow, pytest.mark.needs("dask", "distributed")]),
    pytest.param("ray?workers=1", marks=[pytest.mark.slow, pytest.mark.needs("ray")]),
]

STEPS = """
import asyncio, functools, threading
from penstock import INPUTS, TASK_CODE, flow, task

_MODEL = None
_CACHE = {}
_N = 0
_HANDLERS = {}
LOCK = threading.Lock()

def init():
    global _MODEL
    _MODEL = 10

def write(x):
    global _N
    _N = x

def remember(x):
    _CACHE[x] = x * 10

def handler(name):
    return lambda fn: _HANDLERS.setdefault(name, fn)

def predict(x):
    if _MODEL is None:
        init()
    return _MODEL * x if _MODEL else "still None"

def twice(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        return fn(*args) * 2
    return wrapper

def kept(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        return fn(*args)
    return wrapper

cached = task(cache_policy=INPUTS + TASK_CODE)

@task
def lazy(x):
    return predict(x) if _MODEL is not None else (init(), _MODEL * x if _MODEL else "still None")[1]

@cached
def cached_lazy(x):
    if _MODEL is None:
        init()
    return _MODEL * x if _MODEL else "still None"

@task
def filled(x):
    remember(x)
    return _CACHE.get(x, "missing")

@task
def counted(x):
    write(x)
    return _N

@task
async def later(x):
    write(x)
    await asyncio.sleep(0)
    return _N

@task
def several(x):
    write(x)
    yield _N

@task
def registered(x):
    import plugins
    return _HANDLERS["double"](x)

@task
def locked(x):
    with LOCK:
        return x

@task
@twice
def wrapped_inside(x):
    write(x)
    return _N

@kept
@task
def wrapped_outside(x):
    write(x)
    return _N

@task
@functools.lru_cache
def remembered(x):
    write(x)
    return _N

@task
def outer(x):
    return counted(x)

@task
def given(step, x):
    return step(x)

class Step:
    def __init__(self, k):
        self.k = k

    @task
    def method(self, x):
        write(x * self.k)
        return _N

    @task
    @staticmethod
    def fixed(x):
        write(x)
        return _N

    @task
    @classmethod
    def made(cls, x):
        write(x)
        return cls.__name__, _N

@task
def same_module():
    import steps
    return globals() is vars(steps)

@flow
def every():
    tasks = [lazy, cached_lazy, filled, counted, later, several, registered, locked, wrapped_inside, wrapped_outside]
    tasks += [remembered, outer, counted.with_options(retries=2), Step(2).method, Step.fixed, Step.made]
    return [*(each(4) for each in tasks), given(counted, 4), same_module()]
"""
PLUGINS = """
from steps import handler

@handler("double")
def double(x):
    return x * 2
"""
MAIN = """
import sys, steps

if __name__ == "__main__":
    print(steps.every.with_options(runner=sys.argv[1])())
"""
EVERY = "[40, 40, 40, 4, 4, [4], 8, 4, 8, 4, 4, 4, 4, 8, 4, ('Step', 4), 4, True]"


def run(folder: Path, *arguments: str, **files: str) -> subprocess.CompletedProcess[str]:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    store = os.environ | {"PENSTOCK_STORE": str(folder / "store")}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=store)


@pytest.mark.slow
@pytest.mark.parametrize("runner", RUNNERS)
def test_a_task_and_its_helpers_use_the_same_module(tmp_path: Path, runner: str) -> None:
    done = run(tmp_path, "main.py", runner, main=MAIN, steps=STEPS, plugins=PLUGINS)
    assert done.stdout.strip() == EVERY, done.stderr


@pytest.mark.slow
def test_a_task_and_its_helpers_use_the_same_module_in_a_file_given_to_the_command(tmp_path: Path) -> None:
    arguments = ["-m", "penstock", "run", "steps.py:every", "--runner", "processes?workers=1"]
    done = run(tmp_path, *arguments, steps=STEPS, plugins=PLUGINS)
    assert EVERY in done.stdout, done.stderr


SETTINGS = """
from penstock import INPUTS, TASK_CODE, TASK_SOURCE, task

RATE = 1
_SCALE = None
_OPTIONS = {}

def configure(n):
    global _SCALE
    _SCALE = n
    _OPTIONS["scale"] = n

@task
def scaled(x): return x * (_SCALE or 1)
@task(cache_policy=INPUTS + TASK_CODE)
def scaled_code(x): return x * (_SCALE or 1)
@task(cache_policy=INPUTS + TASK_SOURCE)
def scaled_source(x): return x * (_SCALE or 1)
@task
def optional(x): return x * _OPTIONS.get("scale", 1)
@task(cache_policy=INPUTS + TASK_CODE)
def optional_code(x): return x * _OPTIONS.get("scale", 1)
@task
def rated(x): return x * RATE
@task(cache_policy=INPUTS + TASK_CODE)
def rated_code(x): return x * RATE
"""
SETTINGS_MAIN = """
import sys, settings
from penstock import flow
from penstock.errors import RunnerError
from penstock.runners import ProcessRunner

def prepare():
    import settings
    settings.configure(3)
    settings.RATE = 3

NAMES = ["scaled", "scaled_code", "scaled_source", "optional", "optional_code", "rated", "rated_code"]

if __name__ == "__main__":
    prepare()
    setup = prepare if sys.argv[1] == "prepared" else None
    for name in NAMES:
        step = getattr(settings, name)
        try:
            print(name, flow(runner=ProcessRunner(1, worker_setup=setup))(lambda: step(4))())
        except RunnerError as error:
            print(name, "worker_setup=" in str(error))
"""


@pytest.mark.slow
def test_a_constant_that_only_the_driver_has_set_is_reported_for_every_kind_of_task(tmp_path: Path) -> None:
    done = run(tmp_path, "main.py", "driver", main=SETTINGS_MAIN, settings=SETTINGS)
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["True"] * 7, done.stdout + done.stderr


@pytest.mark.slow
def test_a_constant_that_workers_have_set_too_is_used(tmp_path: Path) -> None:
    done = run(tmp_path, "main.py", "prepared", main=SETTINGS_MAIN, settings=SETTINGS)
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["12"] * 7, done.stdout + done.stderr
