"""Tasks of imported modules: on every runner, they and the functions that they call use the same module."""

from __future__ import annotations

import importlib
import linecache
import operator
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from penstock.graph.carried import code_digests
from penstock.graph.tasks import TaskDefinition
from penstock.objects.live import dumps

RUNNERS = [
    "threads",
    "processes?workers=1",
    pytest.param("dask?workers=1", marks=[pytest.mark.slow, pytest.mark.needs("dask", "distributed")]),
    pytest.param("ray?workers=1", marks=[pytest.mark.slow, pytest.mark.in_ci, pytest.mark.needs("ray")]),
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
    return [*(each(4) for each in tasks), given(counted, 4), given(cached_lazy, 4), same_module()]
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
EVERY = "[40, 40, 40, 4, 4, [4], 8, 4, 8, 4, 4, 4, 4, 8, 4, ('Step', 4), 4, 40, True]"


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


CHANGING = """
from penstock import INPUTS, TASK_CODE, flow, task

CALLS = {"all": 0}
SEEN = ["first"]
RATE = {"now": 1}

@task(cache_policy=INPUTS + TASK_CODE)
def counting(x):
    CALLS["all"] += 1
    return x

@task(cache_policy=INPUTS + TASK_CODE)
def appending(x):
    SEEN.append(x)
    return x

@task
def plain(x):
    CALLS["all"] += 1
    SEEN.append(x)
    return x

@task(cache_policy=INPUTS + TASK_CODE)
def rated(x):
    RATE["used"] = True
    return x * RATE["now"]
"""
CHANGING_MAIN = """
import changing
from distributed import LocalCluster
from penstock import flow
from penstock.errors import RunnerError
from penstock.runners import DaskRunner

if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        runner = DaskRunner(cluster=cluster)
        for step in (changing.counting, changing.appending, changing.plain):
            print([flow(runner=runner)(lambda: step(x))() for x in (1, 2, 3)])
        changing.RATE["now"] = 5
        try:
            print(flow(runner=runner)(lambda: changing.rated(1))())
        except RunnerError:
            print("refused")
"""


@pytest.mark.slow
@pytest.mark.needs("dask", "distributed")
def test_workers_of_several_runs_may_keep_what_tasks_changed_but_not_miss_what_the_program_did(tmp_path: Path) -> None:
    done = run(tmp_path, "main.py", main=CHANGING_MAIN, changing=CHANGING)
    assert done.stdout.splitlines() == ["[1, 2, 3]"] * 3 + ["refused"], done.stderr


HIDING = """
from penstock import INPUTS, TASK_CODE, flow, task

def make(n):
    @task
    def inner(x): return x + n
    return inner

@task
def named(x): return x + 1
@flow
def flowing(x): return x + 1
closure = make(1)
unnamed = task(lambda x: x + 1)
@task
def replaced(x): return x + 1
first = replaced
@task
def replaced(x): return x + 2
@task(cache_policy=INPUTS + TASK_CODE)
def edited(x): return x + 1

class Step:
    @task
    def method(self, x): return x + 1
    @task
    @staticmethod
    def fixed(x): return x + 1
"""


@pytest.fixture
def hiding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "hiding.py").write_text(HIDING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "hiding", raising=False)
    yield importlib.import_module("hiding")
    del sys.modules["hiding"]


@pytest.mark.parametrize("path", ["named", "flowing", "Step.method", "Step.fixed", "replaced"])
def test_a_function_that_its_task_hides_is_named_in_pickles(hiding: Any, path: str) -> None:
    function = operator.attrgetter(path)(hiding).fn
    assert pickle.loads(dumps(function)) is function


@pytest.mark.parametrize("name", ["closure", "unnamed", "first"])
def test_a_function_that_its_name_does_not_lead_to_is_copied(hiding: Any, name: str) -> None:
    function = getattr(hiding, name).fn
    copied = pickle.loads(dumps(function))
    assert copied is not function
    assert copied(1) == function(1) == 2


def test_a_function_replaced_at_run_time_is_copied(hiding: Any) -> None:
    function, hiding.named = hiding.named.fn, hiding.replaced
    copied = pickle.loads(dumps(function))
    assert copied is not function
    assert copied(1) == 2


def test_functions_of_modules_that_no_other_process_can_import_are_copied(
    hiding: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.path_importer_cache, str(tmp_path), raising=False)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    copied = pickle.loads(dumps(hiding.named.fn))
    assert copied is not hiding.named.fn
    assert copied(1) == 2


def test_modules_registered_by_value_are_copied(hiding: Any) -> None:
    cloudpickle.register_pickle_by_value(hiding)
    try:
        assert pickle.loads(dumps(hiding.named.fn)) is not hiding.named.fn
    finally:
        cloudpickle.unregister_pickle_by_value(hiding)


def test_digests_of_code_are_not_carried_to_another_version_of_the_module(hiding: Any, tmp_path: Path) -> None:
    definition = hiding.edited.definition
    sent, own = dumps(definition), code_of(definition)
    assert code_of(pickle.loads(sent)) == own
    (tmp_path / "hiding.py").write_text(HIDING.replace("def edited(x): return x + 1", "def edited(x): return x + 10"))
    del sys.modules["hiding"]
    importlib.invalidate_caches()
    linecache.checkcache()
    assert code_of(pickle.loads(sent)) != own


def code_of(definition: TaskDefinition) -> dict[str, str]:
    assert definition.options.cache_policy is not None
    return code_digests(definition.fn, definition.options.cache_policy, definition.identity)


REGISTRY = """
from penstock import INPUTS, TASK_CODE, flow, task

HANDLERS = {}

def handler(fn):
    HANDLERS[fn.__name__] = fn
    return fn

@task
def plain(x): return HANDLERS["double"](x) if HANDLERS else "none"
@task(cache_policy=INPUTS + TASK_CODE)
def cached(x): return HANDLERS["double"](x) if HANDLERS else "none"
@task
def importing(x):
    import handlers
    return HANDLERS["double"](x)
@task(cache_policy=INPUTS + TASK_CODE)
def importing_cached(x):
    import handlers
    return HANDLERS["double"](x)
@flow
def every(x, names): return [globals()[name](x) for name in names]
"""
HANDLERS = """
from registry import handler

@handler
def double(x): return x * 2
"""
REGISTRY_MAIN = """
import sys, registry
from distributed import LocalCluster
from penstock.runners import DaskRunner

if __name__ == "__main__":
    names = sys.argv[1].split(",")
    if not names[0].startswith("importing"):
        import handlers
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        runner = DaskRunner(cluster=cluster)
        print([registry.every.with_options(runner=runner)(x, names) for x in (1, 2, 3)])
"""


@pytest.mark.slow
@pytest.mark.needs("dask", "distributed")
@pytest.mark.parametrize("names", ["plain,cached", "importing,importing_cached"])
def test_a_registry_that_an_import_fills_has_the_same_on_workers_of_several_runs(tmp_path: Path, names: str) -> None:
    done = run(tmp_path, "main.py", names, main=REGISTRY_MAIN, registry=REGISTRY, handlers=HANDLERS)
    assert done.stdout.strip() == "[[2, 2], [4, 4], [6, 6]]", done.stderr
