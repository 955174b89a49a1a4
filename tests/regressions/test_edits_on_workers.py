"""Edits after the driver has imported its code: workers, which import it later, run no other code."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from penstock.errors import RunnerError
from penstock.runners import ProcessRunner

Project = Callable[..., ModuleType]

SPREAD = """
    from penstock import INPUTS, TASK_CODE, TASK_SOURCE, flow, task
    from penstock.runners import ProcessRunner
    import spread_helpers

    @task(cache_policy=INPUTS + TASK_CODE)
    def reaching(n):
        "What it does."
        return spread_helpers.Scale(n).scaled()

    @task(cache_policy=INPUTS + TASK_SOURCE)
    def alone(n):
        return n + 1

    @task(cache_policy=INPUTS, key_name="unversioned")
    def unversioned(n):
        return n + 1

    @flow(runner=ProcessRunner(1))
    def pipeline(names):
        return [globals()[name](1) for name in names]
"""
SPREAD_HELPERS = """
    FACTOR = 2
    FOLDER = "/here"

    class Scale:
        def __init__(self, n):
            self.n = n

        def scaled(self):
            return times(self.n)

    def times(n):
        "Multiply."
        return n * FACTOR + (FOLDER == "")
"""


def edit(module: ModuleType, old: str, new: str) -> None:
    """Change the source of a module that stays as imported here."""
    path = Path(str(module.__file__))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new) + "\n# edited\n")  # a new size, or Python may not notice


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("n * FACTOR", "n * FACTOR + 1", "times"),
        ("times(self.n)", "-times(self.n)", "Scale.scaled"),
        ("self.n = n", "self.n = n + 1", "Scale.__init__"),
        ("FACTOR = 2", "FACTOR = 3", "FACTOR"),
    ],
)
def test_workers_do_not_run_code_edited_after_the_driver_imported_it(
    project: Project, old: str, new: str, named: str
) -> None:
    spread = project(spread=SPREAD, spread_helpers=SPREAD_HELPERS)
    spread.pipeline.plan(["reaching"])
    edit(sys.modules["spread_helpers"], old, new)
    with pytest.raises(RunnerError, match=re.escape(f"than the driver: spread_helpers.{named} [")):
        spread.pipeline(["reaching"])
    assert project(spread=SPREAD, spread_helpers=SPREAD_HELPERS).pipeline(["reaching"]) == [2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reaching", "alone", "unversioned"])
def test_workers_do_not_run_tasks_edited_after_the_driver_imported_them(project: Project, name: str) -> None:
    spread = project(spread=SPREAD, spread_helpers=SPREAD_HELPERS)
    spread.pipeline.plan([name])
    edit(spread, "return n + 1", "return n + 2")
    edit(spread, ".scaled()", ".scaled() + 1")
    with pytest.raises(RunnerError, match=re.escape(f"than the driver: spread.{name} [")):
        spread.pipeline([name])


@pytest.mark.slow
def test_edits_that_change_nothing_that_runs_do_not_stop_workers(project: Project) -> None:
    spread = project(spread=SPREAD, spread_helpers=SPREAD_HELPERS)
    spread.pipeline.plan(["reaching"])
    edit(sys.modules["spread_helpers"], '"Multiply."', '"Multiply, and nothing else."')
    assert spread.pipeline(["reaching"]) == [2]


@pytest.mark.slow
def test_a_function_replaced_only_in_the_driver_is_reported(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    spread = project(spread=PATCHED, spread_helpers=SPREAD_HELPERS)
    assert spread.pipeline() == 2
    monkeypatch.setattr(sys.modules["spread_helpers"], "times", lambda n: -n)
    with pytest.raises(RunnerError, match=re.escape("than the driver: spread_helpers.times [")):
        spread.pipeline()


PATCHED = """
    from penstock import INPUTS, TASK_CODE, flow, task
    from penstock.runners import ProcessRunner
    import spread_helpers

    @task(cache_policy=INPUTS + TASK_CODE)
    def by_name(n):
        return spread_helpers.times(n)

    @flow(runner=ProcessRunner(1))
    def pipeline():
        return by_name(1)
"""


METHODS = """
    import dataclasses
    from penstock import INPUTS, TASK_CODE, flow, task
    from penstock.runners import ProcessRunner

    class Client:
        def get(self):
            return 0

    @dataclasses.dataclass(frozen=True)
    class Row:
        n: int
        RATE = 2
        _known = {}
        _client = None

        def scaled(self):
            return self.n * self.RATE

        def client(self):
            if self._client is None:
                type(self)._client = Client()
            return self._client

        @task(cache_policy=INPUTS + TASK_CODE)
        def own(self, x):
            self._known[x] = self.scaled()
            return self._known[x] + x + self.client().get()

    @task(cache_policy=INPUTS + TASK_CODE)
    def annotated(row: Row, x):
        return row.scaled() + x

    @flow(runner=ProcessRunner(1))
    def pipeline(x):
        return [Row(1).own(x), annotated(Row(1), x)]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "named"), [("RATE = 2", "RATE = 3", "RATE"), ("self.n *", "-self.n *", "scaled")]
)
def test_workers_do_not_run_methods_whose_class_was_edited(project: Project, old: str, new: str, named: str) -> None:
    methods = project(methods=METHODS)
    methods.pipeline.plan(1)
    edit(methods, old, new)
    with pytest.raises(RunnerError, match=re.escape(f"than the driver: methods.Row.{named} [")):
        methods.pipeline(1)


@pytest.mark.slow
def test_what_methods_keep_in_their_class_does_not_stop_workers(project: Project) -> None:
    methods = project(methods=METHODS)
    with ProcessRunner(1) as runner:  # the worker keeps it for the next calls
        found = [methods.pipeline.with_options(runner=runner)(x) for x in range(3)]
    assert found == [[2, 2], [3, 3], [4, 4]]


EVERY_KIND = """
    import collections, dataclasses, datetime, enum, functools, random, threading, typing

    @functools.lru_cache
    def cached(n): return n + 1
    def through(f):
        @functools.wraps(f)
        def wrapper(*args): return f(*args)
        return wrapper
    @through
    def wrapped(n): return n + 1
    def default(n, k=1): return n + k
    unnamed = lambda n: n + 1
    def adder(k):
        def inner(n): return n + k
        return inner
    closure = adder(1)
    partial = functools.partial(default, k=1)
    def attributed(n): return n + attributed.k
    attributed.k = 1
    @functools.singledispatch
    def dispatching(n): return 0
    @dispatching.register
    def _(n: int): return n + 1
    @dataclasses.dataclass
    class Fields:
        n: int
        k: int = 1
    @dataclasses.dataclass
    class Made:
        n: int
        k: list = dataclasses.field(default_factory=lambda: [1])
    class Attribute:
        k = 1
    class Property:
        @property
        def k(self): return 1
    class Cached:
        @functools.cached_property
        def k(self): return 1
    class Static:
        @staticmethod
        def k(): return 1
    class Method:
        def k(self): return 1
    class Setting:
        @property
        def k(self): return self.kept
        @k.setter
        def k(self, given): self.kept = given + 1
    class Number(enum.Enum):
        K = 1
        @property
        def next(self): return self.value + 1
    class One:
        k = 1
    class Two:
        k = 2
    class Inherited(One):
        pass
    class Holder:
        class Inner:
            k = 1
    class Row(typing.NamedTuple):
        n: int
        k: int = 1
    Point = collections.namedtuple("Point", "n k", defaults=[1])
    class Meta(type):
        k = 1
    class Other(type):
        k = 9
    class Sorted(metaclass=Meta):
        pass
    T = typing.TypeVar("T")
    class Generic(typing.Generic[T]):
        pass
    class Specific(Generic[int]):
        pass
    class Overriding(One):
        pass
    def guarded(f):
        lock = threading.Lock()
        @functools.wraps(f)
        def wrapper(*args):
            with lock:
                return f(*args)
        return wrapper
    class Guarded:
        @guarded
        def k(self): return 1
    class Bound:
        def add(self, n): return 1 + n
        k = functools.partialmethod(add, 1)
    class Described:
        def __init__(self, value): self.value = value
        def __get__(self, owner, kind): return self.value
    class Descriptors:
        k = Described(1)
    class Swapped:
        __sub__ = int.__add__
    class Remembering:
        def __init__(self): self.spelling = {}
    def spelling(n): return n + 1
    def hidden(n): return max(n, 1)
    def __getattr__(name):
        if name == "LATE":
            return 1
        raise AttributeError(name)
    SEEDED = random.Random(1).randint(1, 10**9)
    OPENS = datetime.time(8, 0).hour
    TABLE = {"k": 1}
    STATED = "k /one"
    NUMBER = 1.0
"""
USES = {
    "cached": ("e.cached(1)", "def cached(n): return n + 1", "def cached(n): return n + 9"),
    "wrapped": ("e.wrapped(1)", "def wrapped(n): return n + 1", "def wrapped(n): return n + 9"),
    "default": ("e.default(1)", "n, k=1", "n, k=9"),
    "unnamed": ("e.unnamed(1)", "lambda n: n + 1", "lambda n: n + 9"),
    "closure": ("e.closure(1)", "adder(1)", "adder(9)"),
    "partial": ("e.partial(1)", "default, k=1", "default, k=9"),
    "attributed": ("e.attributed(1)", "attributed.k = 1", "attributed.k = 9"),
    "dispatching": ("e.dispatching(1)", "n: int): return n + 1", "n: int): return n + 9"),
    "fields": ("1 + e.Fields(1).k", "k: int = 1\n@dataclasses", "k: int = 9\n@dataclasses"),
    "made": ("1 + e.Made(1).k[0]", "lambda: [1]", "lambda: [9]"),
    "attribute": ("1 + e.Attribute.k", "Attribute:\n    k = 1", "Attribute:\n    k = 9"),
    "property": ("1 + e.Property().k", "@property\n    def k(self): return 1",
                 "@property\n    def k(self): return 9"),
    "cached_property": ("1 + e.Cached().k", "cached_property\n    def k(self): return 1",
                        "cached_property\n    def k(self): return 9"),
    "static": ("1 + e.Static.k()", "def k(): return 1", "def k(): return 9"),
    "method": ("1 + e.Method().k()", "Method:\n    def k(self): return 1",
               "Method:\n    def k(self): return 9"),
    "setter": ("setting()", "given + 1", "given + 9"),
    "member": ("1 + e.Number.K.value", "K = 1", "K = 9"),
    "of_member": ("e.Number.K.next", "self.value + 1", "self.value + 9"),
    "inherited": ("1 + e.Inherited.k", "Inherited(One)", "Inherited(Two)"),
    "inner": ("1 + e.Holder.Inner.k", "Inner:\n        k = 1", "Inner:\n        k = 9"),
    "row": ("1 + e.Row(1).k", "k: int = 1\nPoint", "k: int = 9\nPoint"),
    "point": ("1 + e.Point(1).k", "defaults=[1]", "defaults=[9]"),
    "metaclass": ("1 + e.Sorted.k", "metaclass=Meta", "metaclass=Other"),
    "generic": ("len(e.Specific.__orig_bases__) + 1", "Generic[int]", "Generic[str]"),
    "added": ("1 + e.Overriding.k", "class Overriding(One):", "class Overriding(One):\n    def k(self): return 9"),
    "guarded": ("1 + e.Guarded().k()", "@guarded\n    def k(self): return 1", "@guarded\n    def k(self): return 9"),
    "bound": ("e.Bound().k()", "partialmethod(add, 1)", "partialmethod(add, 9)"),
    "descriptor": ("1 + e.Descriptors().k", "Described(1)", "Described(9)"),
    "special": ("len(str(e.Swapped.__sub__)) * 0 + 2", "int.__add__", "int.__mul__"),
    "spelling": ("e.spelling(1)", "def spelling(n): return n + 1", "def spelling(n): return n + 9"),
    "hidden": ("e.hidden(2)", "def hidden", "def max(*n): return 9\ndef hidden"),
    "late": ("1 + e.LATE", "return 1\n    raise", "return 9\n    raise"),
    "seeded": ("2 if e.SEEDED else 0", "Random(1)", "Random(9)"),
    "opens": ("e.OPENS - 6", "time(8, 0)", "time(9, 0)"),
    "table": ('1 + e.TABLE["k"]', '"k": 1', '"k": 9'),
    "stated": ('2 if e.STATED == "k /one" else 9', '"k /one"', '"k /nine"'),
    "number": ("1 + int(e.NUMBER)", "1.0", "9.0"),
}  # fmt: skip
USING = """
    import every_kind as e
    from penstock import INPUTS, TASK_CODE, flow, task
    from penstock.errors import RunnerError

    def setting():
        made = e.Setting()
        made.k = 1
        return made.k

    {tasks}

    @flow
    def pipeline(names):
        return [outcome(globals()[name].submit()) for name in names]

    def outcome(future):
        try:
            return future.result()
        except RunnerError as error:
            return error.what
"""


def using(project: Project) -> ModuleType:
    tasks = "".join(
        f"""
    @task(cache_policy=INPUTS + TASK_CODE)
    def {name}():
        return {expression}
"""
        for name, (expression, _, _) in USES.items()
    )
    return project(using=USING.replace("{tasks}", tasks), every_kind=EVERY_KIND)


@pytest.mark.slow
def test_workers_refuse_code_of_every_kind_edited_after_the_driver_imported_it(project: Project) -> None:
    pipeline = using(project).pipeline
    for name in USES:
        pipeline.plan([name])
    for _, old, new in USES.values():
        edit(sys.modules["every_kind"], old, new)
    outcomes = pipeline.with_options(runner=ProcessRunner(1))(list(USES))
    told = "a worker imports other code than the driver: every_kind."
    assert [name for name, outcome in zip(USES, outcomes, strict=True) if not str(outcome).startswith(told)] == []
    assert pipeline(list(USES)) == [2] * len(USES)


@pytest.mark.slow
def test_workers_run_code_of_every_kind_that_is_the_same_there(project: Project) -> None:
    pipeline = using(project).pipeline
    assert pipeline.with_options(runner=ProcessRunner(1))(list(USES)) == [2] * len(USES)


OWN_TO_PROCESSES = """
    import collections, dataclasses, functools, heapq, logging, os, pathlib, random, re, threading, time, typing, uuid

    def memo(f):
        cache = {}
        @functools.wraps(f)
        def wrapper(n):
            if n not in cache:
                cache[n] = f(n)
            return cache[n]
        return wrapper

    def counted(f):
        calls = 0
        @functools.wraps(f)
        def wrapper(n):
            nonlocal calls
            calls += 1
            wrapper.calls += 1
            return f(n)
        wrapper.calls = 0
        return wrapper

    @memo
    @counted
    def remembered(n): return n

    class Lazy:
        model = None
        instance = None
        def __new__(cls):
            if cls.instance is None:
                cls.instance = super().__new__(cls)
            return cls.instance

    class Base:
        kinds = []
        def __init_subclass__(cls): Base.kinds.append(cls)

    @dataclasses.dataclass
    class Cache:
        found: dict = dataclasses.field(default_factory=dict)
        hits: int = 0
        def get(self, n):
            self.hits += 1
            self.found[n] = n
            return n

    CACHE = Cache()
    HEAP = []
    RANDOM = random.Random(1)
    RECENT = collections.deque(maxlen=3)

    def aliased(n):
        heapq.heappush(HEAP, n)
        recent = RECENT
        recent.append(n)
        lazy = Lazy
        lazy.model = lazy.model or [n]
        setattr(Lazy, "late", n)
        Lazy()
        RANDOM.random()
        Base.kinds
        return CACHE.get(remembered(n))

    STARTED = time.time()
    PROCESS = os.getpid()
    FILE = pathlib.Path(__file__).parent
    NAMED = os.path.join(os.environ.get("HOME", os.sep), str(os.getpid()))
    RUN = uuid.uuid4()
    LOG = logging.getLogger(__name__)
    WORDS = re.compile("a+")
    LOADED = None
    CALLS = collections.Counter()
    KNOWN = {}
    LISTED = []

    def remember(n):
        global LOADED
        LOADED = os.getpid()
        CALLS[n] += 1
        KNOWN.setdefault(n, os.getpid())
        LISTED.append(os.getpid())
        Counted.count += 1
        Counted.known[n] = os.getpid()
        return aliased(n) + 1

    class Counted:
        count = 0
        known: typing.ClassVar[dict] = {}
        lock = threading.Lock()
        made: typing.ClassVar[list] = []

        def __init__(self):
            self.made.append(os.getpid())
            self.count += 1
            type(self).count += 1

    setattr(Counted, "odd:name=1", 1)

    def uses(n):
        Counted()
        return remember(n) if STARTED and PROCESS and FILE and NAMED and RUN and LOG and WORDS else 0
"""
USES_OWN = """
    import own_to_processes
    from penstock import INPUTS, TASK_CODE, flow, task

    class Local(own_to_processes.Base):
        pass

    @task(cache_policy=INPUTS + TASK_CODE, key_name="using")
    def using(n):
        return own_to_processes.uses(n)

    @task(cache_policy=INPUTS + TASK_CODE, key_name="again")
    def again(n):
        return own_to_processes.uses(n)

    @flow
    def pipeline(n):
        return again(using(n)) - 1
"""


@pytest.mark.slow
def test_state_of_each_process_does_not_stop_workers(project: Project) -> None:
    pipeline = project(uses_own=USES_OWN, own_to_processes=OWN_TO_PROCESSES).pipeline
    for number in range(3):
        sys.modules["own_to_processes"].uses(number)
        assert pipeline.with_options(runner=ProcessRunner(1))(number) == number + 1


@pytest.mark.slow
def test_the_error_for_a_module_variable_set_at_run_time_names_worker_setup(project: Project) -> None:
    spread = project(spread=SPREAD, spread_helpers=SPREAD_HELPERS)
    sys.modules["spread_helpers"].FACTOR = 5
    with pytest.raises(RunnerError, match=re.escape("spread_helpers.FACTOR")) as raised:
        spread.pipeline(["reaching"])
    assert "worker_setup" in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("set_up", ["set_rate(5)", "configure(plus=5)", "register('plus', settings.set_rate)"])
def test_configuration_made_at_run_time_and_missing_on_workers_is_reported(project: Project, set_up: str) -> None:
    pipeline = project(uses_settings=USES_SETTINGS, settings_of_it=SETTINGS).pipeline
    eval(f"settings.{set_up}", {"settings": sys.modules["settings_of_it"]})
    with pytest.raises(RunnerError, match=r"other code than the driver: settings_of_it\.[A-Z]+ \["):
        pipeline()


SETTINGS = """
    RATE = 1
    OPTIONS = {"plus": 1}
    KINDS = {}

    def set_rate(rate):
        global RATE
        RATE = rate

    def configure(**options):
        OPTIONS.update(options)

    def register(name, function):
        KINDS[name] = function

    def used():
        return RATE, OPTIONS, len(KINDS)
"""
USES_SETTINGS = """
    import settings_of_it
    from penstock import INPUTS, TASK_CODE, flow, task
    from penstock.runners import ProcessRunner

    @task(cache_policy=INPUTS + TASK_CODE)
    def using():
        return settings_of_it.used()

    @flow(runner=ProcessRunner(1))
    def pipeline():
        return using()
"""


@pytest.mark.slow
def test_helpers_rewritten_by_a_test_runner_run_on_workers(tmp_path: Path) -> None:
    (tmp_path / "test_rewritten.py").write_text(textwrap.dedent(REWRITTEN))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_rewritten.py")],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


REWRITTEN = """
    from penstock import INPUTS, TASK_CODE, flow, task
    from penstock.runners import ProcessRunner

    LIMIT = 5

    def checked(n):
        assert n < LIMIT, "too large"
        return n + 1

    class Checking:
        def checked(self, n):
            assert n, f"{n} is nothing"
            return checked(n)

    @task(cache_policy=INPUTS + TASK_CODE)
    def run(n):
        assert n
        return Checking().checked(n)

    @flow(runner=ProcessRunner(1))
    def pipeline(n):
        return run(n)

    def test_it():
        assert pipeline(1) == 2
"""
