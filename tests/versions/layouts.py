"""The same code in many layouts: module, package, script, notebook, lambda, closure, decorator and more."""

from __future__ import annotations

import contextlib
import importlib
import linecache
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from penstock.digests.names import main_module
from penstock.graph.keys import KeyContext, compile_template
from penstock.graph.policies import INPUTS, TASK_CODE, TASK_SOURCE
from penstock.graph.tasks import TaskDefinition, TaskOptions

POLICIES = {"INPUTS": INPUTS, "TASK_SOURCE": INPUTS + TASK_SOURCE, "TASK_CODE": INPUTS + TASK_CODE}
_CONTEXT = KeyContext(run_id="r", flow_parameters={}, flow_name=None, file_digest=str, expand=lambda pattern: [])

CODE = '''
import dataclasses, datetime as dt, decimal, enum, functools, itertools, json, math, os.path, pathlib, re
from collections import Counter, OrderedDict, defaultdict
from typing import Any, NamedTuple

LIMIT = 3
RATES = {"a": 1.5, "b": (1, 2), "c": [None, True]}
SINCE = dt.datetime(2024, 2, 29, tzinfo=dt.timezone.utc)
FOLDER = pathlib.Path("data")
WORD = re.compile(r"\\w+", re.ASCII)

class Size(enum.Enum):
    SMALL = 1
    LARGE = "l"

class Pair(NamedTuple):
    a: int
    b: int = 2

@dataclasses.dataclass
class Shop:
    tax: float = 1.2
    names: list = dataclasses.field(default_factory=list)

    def price(self, x):
        """What it costs."""
        return round(x * self.tax, 2)

    def __call__(self, x):
        return self.price(x) + LIMIT

SHOP = Shop(1.1)

def helper(x, *, by=2):
    return [y * by for y in range(x) if y % 2]

def plain(x):
    return x + LIMIT

def defaults(x, by=1.5, names=("a", "b"), then=helper, size=Size.SMALL, pair=Pair(1)):
    return then(x)

def calls(x):
    total = sum(helper(x)) + SHOP.price(x)
    return json.dumps({"total": total, "rates": RATES, "since": SINCE.isoformat(), "f": str(FOLDER / "a")})

def formats(x):
    return f"{x!r:>{LIMIT}} {x + 1:.2f} {'nested ' f'{x}'} {{}}" "end"

def matches(x):
    match x:
        case {"kind": "a", **rest} if rest:
            return rest
        case [first, *others] | (first, others):
            return first, others
        case Pair(a=1) | Size.LARGE | None:
            return -1
        case str() as text:
            return WORD.findall(text)
    return x

def tries(x):
    try:
        with open(os.path.join("a", "b")) as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise RuntimeError("no") from error
    else:
        x += 1
    finally:
        del x

def groups(x):
    try:
        x += 1
    except* ValueError as many:
        x = many
    return x

def walrus(x):
    return [y for z in x if (y := z + 1) and not z < 2 < y] or {**RATES, "d": x} | {1: 2}

def generates(x):
    yield from (y async for y in x) if False else iter([x])

async def waits(x):
    async with x as inner:
        return [y async for y in inner]

def imports(x):
    import math
    from itertools import chain as together
    return math.sqrt(x), list(together([x], [LIMIT]))

def nested(x):
    def inner(y):
        nonlocal x
        x += y
        return lambda z: z + x
    class Local:
        factor = 3
        def go(self):
            return self.factor
    return inner(1)(Local().go())

def stars(x, /, y=1, *args, key=None, **options):
    return print(*args, sep="", **options) or x[1:2, ..., ::3]

def numbers(x):
    return 0x1F + 1_000 + 1e-7 + 3j + 10**40, b"\\x00\\xff", "\\ud800" + "ä", -0.0, ..., NotImplemented

def counts(x):
    found = defaultdict(Counter)
    found[x] += Counter("aab")
    return OrderedDict(sorted(found.items()))

def made(by):
    held = {"by": by}
    def inner(x):
        return x * held["by"]
    return inner

def scaled(by):
    def decorate(fn):
        @functools.wraps(fn)
        def wrapper(x):
            return fn(x) * by
        return wrapper
    return decorate

@scaled(3)
def decorated(x):
    return x + LIMIT

@functools.lru_cache(maxsize=None)
def cached(x):
    return helper(x)

closure = made(4)
over_function = made(helper)
over_object = made(Shop(2))
over_module = made(math)
double = lambda x: x * 2
with_default = lambda x, by=RATES: (x, by)
part = functools.partial(defaults, by=3)
bound = SHOP.price
called = Shop(5)
'''

NAMES = """
plain defaults calls formats matches tries groups walrus generates waits imports nested stars numbers counts decorated
cached closure over_function over_object over_module double with_default part bound called Shop
""".split()  # noqa: SIM905 - as lines of a list they would fill the page


def keys(folder: Path) -> dict[str, str]:
    """Return the key of a call of each function in each layout and under each policy, or the error instead."""
    found = {}
    for layout, module in _layouts(folder):
        for name in NAMES:
            for policy in POLICIES:
                with main_module(f"{layout}.ipynb" if layout == "notebook" else layout):
                    found[f"{layout}: {name}, {policy}"] = _key(getattr(module, name), policy)
    return found


def _key(fn: Callable[..., Any], policy: str) -> str:
    try:
        definition = TaskDefinition(fn, TaskOptions(cache_policy=POLICIES[policy]))
        parameters = list(definition.binding.parameters)
        template = compile_template(
            POLICIES[policy], identity=definition.identity, fn=fn, parameters=parameters, context=_CONTEXT
        )
        assert template is not None
        return str(template.cache_key(dict.fromkeys(parameters, 1)))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return f"{type(error).__name__}: {error}".partition("\n")[0]


def _layouts(folder: Path) -> Iterator[tuple[str, ModuleType]]:
    sys.path.insert(0, str(folder))  # for as long as the process: its code is looked up there
    for layout, path in (("module", "laid_alone.py"), ("package", "laid_out/inner/code.py")):
        _write(folder / path)
        importlib.invalidate_caches()  # a folder that was listed within the same tick looks unchanged
        yield layout, importlib.import_module(path.removesuffix(".py").replace("/", "."))
    with _as_main(str(_write(folder / "script.py"))) as main:
        main.__file__ = str(folder / "script.py")
        yield "script", main
    cell = "<ipython-input-1-0123456789ab>"  # as IPython registers its cells with linecache
    linecache.cache[cell] = (len(CODE), None, CODE.splitlines(keepends=True), cell)
    with _as_main(cell) as main:
        yield "notebook", main


def _write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CODE, encoding="utf-8")
    for parent in path.parents:
        if parent.name in ("inner", "laid_out"):
            (parent / "__init__.py").write_text("", encoding="utf-8")
    return path


@contextlib.contextmanager
def _as_main(filename: str) -> Iterator[ModuleType]:
    """Run the code as the main program."""
    module = ModuleType("__main__")
    before, sys.modules["__main__"] = sys.modules["__main__"], module
    try:
        exec(compile(CODE, filename, "exec"), vars(module))
        yield module
    finally:
        sys.modules["__main__"] = before
