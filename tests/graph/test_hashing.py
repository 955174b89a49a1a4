"""Digests of Python values: equal values agree everywhere, different values differ, and nothing is guessed."""

from __future__ import annotations

import array
import collections
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import io
import ipaddress
import itertools
import json
import logging
import multiprocessing
import operator
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import textwrap
import threading
import types
import typing
import uuid
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock
from penstock.digests.python import MAX_DEPTH, combine, digest, register_digest
from penstock.digests.refs import Ref
from penstock.errors import DigestError

FOLDER = Path(__file__).parent


@dataclasses.dataclass
class Point:
    x: int
    y: Any = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: int


class Pair(NamedTuple):
    left: int
    right: int


class Color(enum.Enum):
    RED = "r"
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Names(list):  # type: ignore[type-arg]
    """A subclass of a built-in type."""


# Golden vectors contain class names, which must not depend on how tests are imported.
for _cls in (Point, Slotted, Pair, Color, Level, Rights, Names):
    _cls.__module__ = "shop"

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")

GOLDEN: dict[str, Any] = {
    "None": None,
    "True": True,
    "False": False,
    "0": 0,
    "1": 1,
    "-255": -255,
    "10**30": 10**30,
    "0.0": 0.0,
    "-0.0": -0.0,
    "1.0": 1.0,
    "0.1": 0.1,
    "inf": float("inf"),
    "nan": float("nan"),
    "1+2j": 1 + 2j,
    "empty str": "",
    "str": "Grüße, 世界 🌍",
    "surrogate": "\udc80",
    "empty bytes": b"",
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"\x00\xff"),
    "memoryview": memoryview(b"\x00\xff"),
    "long bytes": bytes(range(256)) * 20_000,
    "...": ...,
    "[]": [],
    "()": (),
    "{}": {},
    "set()": set(),
    "[1, 2]": [1, 2],
    "(1, 2)": (1, 2),
    "[[1], (2,)]": [[1], (2,)],
    "dict": {"b": 1, "a": [2.5, None], 3: {"c": True}},
    "set": {1, "a", (2, 3)},
    "frozenset": frozenset({1, "a"}),
    "OrderedDict": collections.OrderedDict(b=1, a=2),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "Counter": collections.Counter("aab"),
    "deque": collections.deque([1, 2], maxlen=3),
    "mappingproxy": types.MappingProxyType({"a": 1}),
    "namespace": types.SimpleNamespace(a=1),
    "array": array.array("d", [1.5, 2.5]),
    "range": range(1, 10, 2),
    "slice": slice(1, None, 2),
    "dataclass": Point(1, [2]),
    "slots dataclass": Slotted(1),
    "namedtuple": Pair(1, 2),
    "enum": Color.RED,
    "int enum": Level.LOW,
    "flag": Rights.READ | Rights.WRITE,
    "list subclass": Names([1, 2]),
    "date": dt.date(2024, 2, 29),
    "datetime": dt.datetime(2024, 2, 29, 12, 30, 1, 5),
    "datetime UTC": dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC),
    "datetime Berlin": dt.datetime(2024, 2, 29, 12, tzinfo=BERLIN),
    "time": dt.time(1, 2, 3),
    "timedelta": dt.timedelta(days=-1, seconds=5, microseconds=7),
    "timezone": dt.timezone(dt.timedelta(hours=2)),
    "zoneinfo": BERLIN,
    "Decimal": decimal.Decimal("1.50"),
    "Fraction": fractions.Fraction(-1, 3),
    "UUID": uuid.UUID(int=5),
    "Path": pathlib.Path("data/a.csv"),
    "PurePosixPath": pathlib.PurePosixPath("data/a.csv"),
    "pattern": re.compile("a+", re.IGNORECASE),
    "type": collections.OrderedDict,
    "own type": Point,
    "Path type": pathlib.Path,
    "alias": dict[str, int],
    "union": int | None,
    "len": len,
    "str.upper": str.upper,
    "os.path.join": os.path.join,
    "partial": functools.partial(int, base=2),
    "bound": "abc".upper,
    "itemgetter": operator.itemgetter(1, "a"),
    "logger": logging.getLogger("a.b"),
    "module": os,
    "random": random.Random(5),
    "IPv4": ipaddress.ip_address("10.0.0.1"),
    "IPv6 interface": ipaddress.ip_interface("2001:db8::1/64"),
    # Penstock's own types, wherever their modules are
    "penstock level": penstock.IsolationLevel.SERIALIZABLE,
    "penstock policy": penstock.INPUTS + penstock.TASK_SOURCE + penstock.CacheKey("v1") - "x",
    "penstock files": penstock.Files("data/*.csv"),
    "penstock delays": penstock.exponential_backoff(2),
    "penstock function": penstock.task_input_hash,
    "penstock result type": penstock.StoredResult,
    "penstock error type": DigestError,
    "penstock lock type": penstock.locks.MemoryLockManager,
}


# -- stability -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden() -> dict[str, str]:
    vectors: dict[str, str] = json.loads((FOLDER / "golden_keys.json").read_text(encoding="utf-8"))["values"]
    return vectors


@pytest.mark.parametrize("name", GOLDEN)
def test_the_digest_is_the_golden_one_on_every_python(golden: dict[str, str], name: str) -> None:
    assert digest(GOLDEN[name]) == golden[name]


def test_no_two_golden_values_share_a_digest_and_none_is_missing(golden: dict[str, str]) -> None:
    assert len(set(golden.values())) == len(golden)
    assert set(golden) == set(GOLDEN)


def test_a_process_with_another_hash_seed_computes_the_same_digest(golden: dict[str, str]) -> None:
    code = (
        "import sys; from penstock.digests.python import digest\n"
        "values = ({1, 'a', (2, 3)}, {'b': 1, 'a': [2.5, None], 3: {'c': True}}, frozenset({1, 'a'}))\n"
        "print(*map(digest, values))"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(FOLDER.parents[1])}
        said = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
        assert said.stdout.split() == [golden["set"], golden["dict"], golden["frozenset"]]


def test_a_digest_is_forty_hexadecimal_digits() -> None:
    assert re.fullmatch("[0-9a-f]{40}", digest("x"))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_a_copy_has_the_digest_of_its_original(value: object) -> None:
    assert digest(copy.deepcopy(value)) == digest(value)


def exact(value: object) -> object:
    """Return the value with its types: two of these are equal only if their digests should be."""
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(exact, value))
    if isinstance(value, dict):
        return dict, frozenset((exact(k), exact(v)) for k, v in value.items())
    return type(value), value.hex() if isinstance(value, float) else value


@given(values, values)
def test_two_values_share_a_digest_only_if_they_are_the_same(one: object, other: object) -> None:
    assert (digest(one) == digest(other)) == (exact(one) == exact(other))


@given(st.dictionaries(st.text() | st.integers(), st.integers()), st.randoms())
def test_the_order_of_dicts_and_sets_does_not_matter(value: dict[Any, int], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert digest(dict(items)) == digest(value)
    assert digest({key for key, _ in items}) == digest(set(value))


def test_all_nans_are_one_value() -> None:
    assert digest(float("nan")) == digest(-float("nan")) == digest(float("inf") - float("inf"))


@pytest.mark.parametrize(
    "different",
    [
        (True, 1, 1.0, 1 + 0j, "1", b"1", decimal.Decimal(1), fractions.Fraction(1)),
        (0.0, -0.0),
        ([1], (1,), {1}, frozenset({1}), {1: None}),
        ([], [[]], [[], []], [None]),
        ("ab", ["ab"], ["a", "b"], [["a"], "b"]),
        (Point(1), Slotted(1), {"x": 1, "y": 0}),
        (Names([1]), [1]),
        (Color.RED, Color.BLUE, "r"),
        (Level.LOW, 1),
        (Pair(1, 2), (1, 2)),
        (dt.datetime(2024, 1, 1), dt.date(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
        (dt.datetime(2024, 1, 1, 1, tzinfo=BERLIN), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
        (dt.datetime(2024, 10, 27, 2, 30), dt.datetime(2024, 10, 27, 2, 30, fold=1)),
        (decimal.Decimal("1.0"), decimal.Decimal("1.00")),
        (b"x", bytearray(b"x"), memoryview(b"x")),
        (re.compile("a"), re.compile("a", re.IGNORECASE), re.compile(b"a")),
        (collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), {"a": 1, "b": 2}),
        (pathlib.Path("a"), "a", pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a")),
        (range(3), [0, 1, 2]),
        (int, float, list, list[int], list[str], int | str),
        (dt.UTC, dt.timezone(dt.timedelta(0), "GMT")),
    ],
)
def test_values_that_a_function_can_distinguish_differ(different: tuple[object, ...]) -> None:
    assert len({digest(value) for value in different}) == len(different)


def test_aliasing_does_not_matter() -> None:
    shared = [1, [2]]
    assert digest([shared, shared]) == digest([[1, [2]], [1, [2]]])


def test_a_value_with_many_shared_parts_is_digested_quickly() -> None:
    value: list[Any] = [1]
    for _ in range(100):
        value = [value, value]
    assert len(digest(value)) == 40


def test_shared_parts_deep_inside_are_digested_like_copies() -> None:
    def nest(make: Callable[[], list[int]]) -> Any:
        value: Any = [make(), make()]
        for _ in range(20):
            value = [value]
        return value

    shared = [1, 2]
    assert digest(nest(lambda: shared)) == digest(nest(lambda: [1, 2]))


def test_a_dataclass_counts_with_attributes_besides_its_fields() -> None:
    plain, marked = Point(1), Point(1)
    marked.extra = 5  # type: ignore[attr-defined]
    assert digest(plain) != digest(marked)


def test_a_cached_property_does_not_change_the_digest() -> None:
    @dataclasses.dataclass
    class Lazy:
        x: int

        @functools.cached_property
        def twice(self) -> int:
            return self.x * 2

    value = Lazy(1)
    before = digest(value)
    assert value.twice == 2
    assert digest(value) == before


# -- Refs ------------------------------------------------------------------------------------------------------------


def test_a_ref_contributes_the_digest_of_its_value() -> None:
    known = {Ref(1): digest(42), Ref(2): digest([1, 2])}
    resolve = known.__getitem__
    assert digest([Ref(1), 5], resolve) == digest([42, 5])
    assert digest({"a": (Ref(2), Ref(1))}, resolve) == digest({"a": ([1, 2], 42)})
    assert digest(Point(Ref(1)), resolve) == digest(Point(42))  # type: ignore[arg-type]
    assert digest({Ref(1), 42}, resolve) == digest({42})
    assert digest(Ref(2), resolve) == digest([1, 2])


def test_an_unresolved_ref_is_an_error() -> None:
    with pytest.raises(DigestError, match="no digest yet") as caught:
        digest({"a": [Ref(1)]})
    assert caught.value.where == "value['a'][0]"


# -- values without a digest -----------------------------------------------------------------------------------------


def endless() -> Any:
    yield 1


@pytest.mark.parametrize(
    "make",
    [
        endless,
        lambda: iter([1]),
        lambda: map(str, [1]),
        lambda: zip([1], strict=True),
        itertools.count,
        threading.Lock,
        threading.local,
        lambda: io.StringIO("text"),
        object,
        lambda: ValueError("x"),
        multiprocessing.Lock,
    ],
)
def test_the_error_for_a_missing_digest_lists_three_fixes(make: Callable[[], object]) -> None:
    with pytest.raises(DigestError) as caught:
        digest({"field": [make()]}, where="arguments['x']", name="x")
    assert caught.value.where == "arguments['x']['field'][0]"
    assert '- "x"' in caught.value.hint
    assert "register_digest()" in caught.value.hint
    assert "NO_CACHE" in caught.value.hint


def test_a_socket_and_an_open_file_are_errors(tmp_path: Path) -> None:
    with (tmp_path / "f").open("w") as file, pytest.raises(DigestError, match="TextIOWrapper") as caught:
        digest(file)
    assert "Files(parameter=...)" in caught.value.because
    with socket.socket() as end, pytest.raises(DigestError):
        digest(end)


def test_a_generator_is_not_consumed() -> None:
    items = iter([1, 2, 3])
    with pytest.raises(DigestError, match="list_iterator") as caught:
        digest(items)
    assert "consume it" in caught.value.because
    assert list(items) == [1, 2, 3]


@given(values)
def test_inputs_are_not_mutated(value: object) -> None:
    before = repr(value)
    digest(value)
    assert repr(value) == before


def test_the_error_spells_out_the_place_of_the_value() -> None:
    with pytest.raises(DigestError) as caught:
        digest({"a": [0, Point(1, {7: object()})]})
    assert caught.value.where == "value['a'][1].y[7]"


def test_a_container_that_holds_itself_is_an_error() -> None:
    value: list[Any] = [1]
    value.append({"again": value})
    with pytest.raises(DigestError, match="contains itself"):
        digest(value)


@pytest.mark.parametrize(
    "wrap", [lambda v: [v], lambda v: (v,), lambda v: {"a": v}, Point, lambda v: functools.partial(v)]
)
def test_too_deep_nesting_is_a_clear_error_and_the_limit_works(wrap: Callable[[Any], Any]) -> None:
    value: Any = len
    for _ in range(MAX_DEPTH // 2):
        value = wrap(value)
    assert len(digest(value)) == 40
    value = [1]
    for _ in range(10_000):
        value = [value]
    with pytest.raises(DigestError, match="nested deeper"):
        digest(value)


def test_the_deepest_promised_nesting_works() -> None:
    value: Any = Point(1)
    for _ in range((MAX_DEPTH - 2) // 2):
        value = {"a": Point(0, value)}
    assert len(digest(value)) == 40


class Growing:
    """Adds to the container that holds it while it is digested, as another thread may."""

    def __init__(self) -> None:
        self.held: dict[Any, int] = {}


@pytest.mark.parametrize("container", [dict, collections.OrderedDict, types.SimpleNamespace, Point])
def test_a_container_to_which_others_add_meanwhile_has_a_digest(container: Callable[..., Any]) -> None:
    growing = Growing()
    register_digest(Growing, lambda growing: growing.held.setdefault(f"more {len(growing.held)}", 0))
    value = container(x=growing)
    growing.held = value if isinstance(value, dict) else vars(value)
    before = len(growing.held)
    digest(value)
    assert len(growing.held) == before + 1


# -- registered types ------------------------------------------------------------------------------------------------


class Model:
    def __init__(self, weights: list[float]) -> None:
        self.weights = weights


class Tuned(Model):
    pass


@pytest.fixture
def registered_model() -> None:
    register_digest(Model, lambda model: {"weights": model.weights})


@pytest.mark.usefixtures("registered_model")
def test_a_registered_type_is_digested_by_the_result_of_its_function() -> None:
    assert digest(Model([1.0])) == digest(Model([1.0]))
    assert digest(Model([1.0])) != digest(Model([2.0]))
    assert digest(Model([1.0])) != digest({"weights": [1.0]})


@pytest.mark.usefixtures("registered_model")
def test_a_subclass_of_a_registered_type_is_not_registered() -> None:
    assert digest(Tuned([1.0])) != digest(Model([1.0]))


@pytest.mark.parametrize("cls", [int, list, str, object, type(None), Ref])
def test_types_that_have_a_digest_cannot_be_registered(cls: type) -> None:
    with pytest.raises(TypeError, match="has a fixed digest"):
        register_digest(cls, repr)


def test_registering_a_base_class_updates_its_subclasses() -> None:
    class Base(list):  # type: ignore[type-arg]
        pass

    before = digest(Base([1]))
    register_digest(Base, len)
    assert digest(Base([1])) != before
    assert digest(Base([1])) == digest(Base([2]))


# -- code ------------------------------------------------------------------------------------------------------------


def scale(x: int, by: int = 2) -> int:
    return x * by


def make(rate: Any) -> Callable[[int], Any]:
    def inner(x: int) -> Any:
        return x * rate

    return inner


def test_functions_as_values_count_with_their_closures_and_defaults() -> None:
    assert digest(make(1)) == digest(make(1))
    assert digest(make(1)) != digest(make(2))
    assert digest(scale) != digest(make(1))


def test_functions_inside_closures_are_followed() -> None:
    assert digest(make(make(1))) != digest(make(make(2)))


def test_partials_methods_and_wrapped_functions_have_digests() -> None:
    assert digest(functools.partial(scale, by=3)) != digest(functools.partial(scale, by=4))
    assert digest("a".join) != digest("b".join)
    assert digest(Names([1]).__len__) == digest(Names([1]).__len__)
    assert digest(functools.lru_cache(scale)) == digest(scale)


def test_a_standard_library_function_counts_by_name_and_not_by_source() -> None:
    assert digest(textwrap_dedent()) == digest(textwrap_dedent())
    assert digest(operator.add) != digest(operator.sub)


def textwrap_dedent() -> Any:
    import textwrap

    return textwrap.dedent


def test_objects_of_packages_have_the_names_that_users_import() -> None:
    pytest.importorskip("numpy")
    import concurrent.futures.thread

    import click
    import numpy as np
    from blake3 import blake3

    def named(name: str) -> str:
        return blake3(b"type\0" + name.encode()).digest(20).hex()

    assert digest(click.Command) == named("click:Command")  # defined in click.core
    assert digest(np.random.Generator) == named("numpy.random:Generator")
    assert digest(concurrent.futures.thread.ThreadPoolExecutor) == named("concurrent:ThreadPoolExecutor")
    assert digest(penstock.StoredResult) == named("penstock:StoredResult")


def test_types_and_typing_constructs_have_digests() -> None:
    different = [list, list[int], dict[str, int], int | None, typing.Any, typing.Literal["a"], typing.TypeVar("T")]
    assert len({digest(value) for value in different}) == len(different)
    assert digest(typing.Optional[int]) == digest(int | None)  # noqa: UP045 - both spellings are one type


# -- combine ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4), st.text(max_size=3), st.text(max_size=3))
def test_combine_distinguishes_tags_and_lists(one: list[str], other: list[str], a: str, b: str) -> None:
    assert (combine(a, one) == combine(b, other)) == ((a, one) == (b, other))


# -- engines ---------------------------------------------------------------------------------------------------------


def test_a_process_that_has_hashed_much_can_fork_a_child_that_hashes_much() -> None:
    code = """
        import os
        from penstock.digests.python import digest
        big = bytes(4 << 20)
        expected = digest(big)
        if not (child := os.fork()):
            os._exit(digest(big) != expected)
        raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    # Forked from this process, with all its threads, the child could hang for reasons that are not under test.
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=60, check=False).returncode == 0


def test_digests_work_without_array_packages() -> None:
    code = (
        "import sys\n"
        "for name in ('numpy', 'pandas', 'polars', 'pyarrow', 'pydantic'): sys.modules[name] = None\n"
        "from penstock.digests.python import digest; print(digest([1, {'a': 2.5}]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1])}
    said = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert said.stdout.strip() == digest([1, {"a": 2.5}])


def test_threads_can_digest_concurrently() -> None:
    value = [{"a": list(range(100))}, Point(1)]
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(digest(value))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [digest(value)] * 8


def test_pydantic_models_count_by_class_and_fields() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Settings(pydantic.BaseModel):  # type: ignore[misc,name-defined]
        name: str
        sizes: tuple[int, ...] = ()
        key: pydantic.SecretStr | None = None  # type: ignore[name-defined]

    class Other(Settings):
        pass

    one = Settings(name="a", sizes=(1,))
    assert digest(one) == digest(Settings(sizes=(1,), name="a"))
    assert digest(one) != digest(Settings(name="a", sizes=(2,)))
    assert digest(one) != digest(Settings(name="a", sizes=(1,), key="k"))
    assert digest(one) != digest(Other(name="a", sizes=(1,)))


def test_the_set_of_assigned_model_fields_counts() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Patch(pydantic.BaseModel):  # type: ignore[misc,name-defined]
        id: int
        name: str | None = None

    assert Patch(id=7) == Patch(id=7, name=None)
    assert digest(Patch(id=7)) != digest(Patch(id=7, name=None))
    assert digest(Patch(id=7)) == digest(Patch.model_validate({"id": 7}))


def test_a_model_can_hold_arrays_and_pydantics_undefined() -> None:
    pydantic = pytest.importorskip("pydantic")
    np = pytest.importorskip("numpy")
    from pydantic_core import PydanticUndefined

    class Table(pydantic.BaseModel, arbitrary_types_allowed=True, extra="allow"):  # type: ignore[misc,name-defined,call-arg]
        x: np.ndarray  # type: ignore[name-defined]
        _hidden: Any = pydantic.PrivateAttr(default_factory=lambda: np.zeros(2))

    assert digest(Table(x=np.zeros(3))) == digest(Table(x=np.zeros(3)))
    assert digest(Table(x=np.zeros(3))) != digest(Table(x=np.ones(3)))
    assert digest(Table(x=np.zeros(3), more=np.ones(1))) != digest(Table(x=np.zeros(3), more=np.zeros(1)))
    assert digest([PydanticUndefined]) == digest([copy.deepcopy(PydanticUndefined)])


def test_attributes_hidden_from_equality_and_repr_count() -> None:
    @dataclasses.dataclass
    class Secretive:
        x: int
        seed: int = dataclasses.field(default=0, compare=False)
        note: str = dataclasses.field(default="", repr=False)

    class Sized(collections.defaultdict):  # type: ignore[type-arg]
        pass

    class Marked(list):  # type: ignore[type-arg]
        __slots__ = ("__mark", "unset")

        def __init__(self, items: list[int], mark: int) -> None:
            super().__init__(items)
            self.__mark = mark

    assert Marked([1], 2) == Marked([1], 3)
    assert digest(Marked([1], 2)) != digest(Marked([1], 3))
    assert Secretive(1, 2) == Secretive(1, 3)
    assert digest(Secretive(1, 2)) != digest(Secretive(1, 3))
    assert digest(Secretive(1, note="a")) != digest(Secretive(1, note="b"))
    assert Sized(int) == Sized(list)
    assert digest(Sized(int)) != digest(Sized(list))


def test_msgspec_structs_count_by_class_and_fields() -> None:
    import msgspec

    class Item(msgspec.Struct):
        x: int

    assert digest(Item(1)) == digest(Item(1))
    assert digest(Item(1)) != digest(Item(2))


@pytest.mark.skipif(os.environ.get("PENSTOCK_CORE_ONLY") == "1", reason="the documentation is not beside these tests")
def test_the_examples_in_the_specification_are_correct() -> None:
    text = (FOLDER.parents[1] / "docs" / "keys.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(.+)` \| `([0-9a-f]{40})` \|$", text, flags=re.MULTILINE)
    assert len(rows) > 15
    scope = {"datetime": dt, "decimal": decimal, "pathlib": pathlib, "collections": collections}
    for expression, expected in rows:
        assert digest(eval(expression, scope)) == expected


def test_the_bound_of_a_type_variable_counts() -> None:
    import typing

    kinds: Any = typing  # made at run time, as a library does
    variables = [
        kinds.TypeVar("T"),
        kinds.TypeVar("T", bound=int),
        kinds.TypeVar("T", bound=str),
        kinds.TypeVar("T", int, str),
        kinds.NewType("T", int),
        kinds.NewType("T", str),
    ]
    assert len(set(map(digest, variables))) == len(variables)
