"""Digests of the smallest cases: one element, one byte, no dimension, the last bytes of a block."""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import gc
import sys
import types

import pytest

from penstock import task
from penstock.digests.code.byte_code import behaviour_digest, same_code
from penstock.digests.code.cells import newest_fit
from penstock.digests.code.free_names import _imports_in
from penstock.digests.code.trees import encode_tree, normalise
from penstock.digests.dask_collections import ray_dataset
from penstock.digests.definitions.behind import behind
from penstock.digests.large import _same_array
from penstock.digests.names import is_project_module
from penstock.digests.python import digest
from penstock.digests.sources import Reach
from penstock.digests.walk import UndigestibleError, Walk
from penstock.digests.zones import zone_name
from penstock.graph.carried import _carried, carry_code


@pytest.mark.needs("numpy")
def test_arrays_with_one_element_differ_by_it() -> None:
    import numpy as np

    assert digest(np.array([1])) != digest(np.array([2]))
    assert digest(np.array(1)) != digest(np.array(2))
    for big in ([1], [2]):  # read element by element, because the byte order is not the machine's
        assert digest(np.array(big, dtype=">i4")) == digest(np.array(big, dtype="<i4"))
    nans = [np.array([complex(real, float("nan"))]) for real in (1, 2)]
    assert digest(nans[0]) == digest(nans[0].copy()) != digest(nans[1])
    assert digest(np.array([], dtype="i8")) == digest(np.array([], dtype="i8")) != digest(np.array([0]))


@pytest.mark.needs("numpy")
@pytest.mark.parametrize("dtype", ["u1", "i1", "?", "S1"])
def test_arrays_of_single_bytes_differ_by_content(dtype: str) -> None:
    import numpy as np

    one, other = np.array([0, 1, 1], dtype=dtype), np.array([1, 0, 1], dtype=dtype)
    assert digest(one) == digest(one.copy()) != digest(other)
    assert digest(one[::2]) == digest(one[::2].copy()) != digest(other[::2])


@pytest.mark.needs("numpy")
def test_a_change_in_the_last_bytes_of_an_array_is_noticed() -> None:
    import numpy as np

    array = np.arange(19, dtype="u1")
    changed = array.copy()
    changed[-1] += 1
    assert _same_array(np, array, array.copy())
    assert not _same_array(np, array, changed)


@pytest.mark.needs("numpy")
def test_arrays_without_dimensions_or_elements_are_digested_not_compared() -> None:
    import numpy as np

    for array in (np.array(1.5), np.zeros((0, 3))):
        assert not _same_array(np, array, array.copy())


def test_code_with_another_sign_of_zero_differs() -> None:
    def constants(text: str) -> types.CodeType:
        return compile(text, "there", "exec")

    assert same_code(constants("x = 0.0"), constants("x = 0.0"))
    assert not same_code(constants("x = 0.0"), constants("x = -0.0"))
    assert not same_code(constants("x = (0.0, 1)"), constants("x = (-0.0, 1)"))
    assert same_code(constants("x in {'a', 'b', 'c'}"), constants("x in {'c', 'b', 'a'}"))


def test_docstrings_do_not_count_and_constants_do() -> None:
    def made(text: str) -> types.FunctionType:
        scope: dict[str, types.FunctionType] = {}
        exec(text, scope)
        return scope["f"]

    def told(one: str, other: str) -> types.FunctionType:
        return made(
            f"def f(x):\n    {one!r}\n    def g(y):\n        {other!r}\n        return y + 1\n    return g(x)\n"
        )

    plain = behaviour_digest(made("def f(x):\n    def g(y): return y + 1\n    return g(x)\n"))
    assert behaviour_digest(told("Tell.", "More.")) == behaviour_digest(told("Say.", "Else."))
    if sys.version_info < (3, 14):  # since then, code without a docstring has no constant for it
        assert behaviour_digest(told("Tell.", "More.")) == plain
    assert behaviour_digest(made("def f(x):\n    def g(y): return y + 2\n    return g(x)\n")) != plain


def test_an_import_of_a_submodule_in_a_function_binds_its_package() -> None:
    function = ast.parse(
        "def f():\n    import os.path\n    import xml.dom as dom\n    return os.path.sep, dom.Node\n"
    ).body[0]
    assert _imports_in(function) == {"os": ("os", None), "dom": ("xml.dom", None)}


def test_how_a_python_version_splits_f_strings_does_not_count() -> None:
    def text(*parts: str) -> ast.Module:
        tree = ast.parse("x = f'{a}'")
        node = tree.body[0]
        assert isinstance(node, ast.Assign)
        assert isinstance(node.value, ast.JoinedStr)
        node.value.values += [ast.Constant(part) for part in parts]
        return tree

    def encoded(tree: ast.Module) -> bytes:
        tree = copy.deepcopy(tree)
        normalise(tree)
        return encode_tree(tree)

    assert encoded(text("one", "two")) == encoded(text("onetwo")) == encoded(text("", "one", "", "two"))
    assert encoded(text("one")) != encoded(text("two"))


def test_a_pytz_zone_without_a_name_is_known_by_its_offset() -> None:
    import datetime

    class Fixed(datetime.tzinfo):
        """A stand-in for `pytz.FixedOffset`, which need not be installed."""

        zone = None

        def utcoffset(self, when: datetime.datetime | None) -> datetime.timedelta:
            return datetime.timedelta(hours=2)

    Fixed.__module__ = "pytz"
    assert zone_name(Fixed()) == zone_name(datetime.timezone(datetime.timedelta(hours=2))) == "UTC+02:00"


def test_the_newest_cell_that_can_have_made_a_class_defines_it() -> None:
    def cell(value: object) -> ast.ClassDef:
        (statement,) = ast.parse(f"class Shop:\n    tax = {value!r}").body
        assert isinstance(statement, ast.ClassDef)
        return statement

    def made(tax: object) -> type:
        return type("Shop", (), {"tax": tax})

    one, two, again = cell(1), cell(2), cell(1)
    assert newest_fit(made(1), [one, two]) == [one]
    assert newest_fit(made(1), [one, two, again]) == [again]
    assert newest_fit(made(True), [one, two]) == []
    # A decorator replaced the constant, so it excludes no cell.
    assert newest_fit(made(property(lambda self: 1)), [one, two]) == [two]


def test_the_function_behind_a_task_and_an_installed_decorator_is_found() -> None:
    def body(x: int) -> int:
        return x

    wrapped = functools.lru_cache(body)
    assert behind(task(body), is_project_module) is body
    assert behind(task(wrapped), is_project_module) is body
    assert behind(body, is_project_module) is body
    # An object with its own attribute `fn` is not a task, and counts as a whole.
    other = types.SimpleNamespace(fn=body)
    assert behind(other, is_project_module) is other


def test_a_callable_project_object_counts_by_state_and_code() -> None:
    @dataclasses.dataclass
    class Adds:
        number: int

        def __call__(self, x: int) -> int:
            return x + self.number

    def uses(number: int) -> str:
        adds = Adds(number)
        return Reach(lambda x: adds(x)).digest()

    assert uses(1) == uses(1) != uses(2)


def test_the_implementations_of_a_dispatching_function_count() -> None:
    @functools.singledispatch
    def area(shape: object) -> float:
        return 0.0

    before = Reach(area).digest()

    @area.register
    def _(shape: int) -> float:
        return 1.0

    assert Reach(area).digest() != before


def test_carried_digests_are_dropped_with_their_function() -> None:
    def there() -> None:
        return

    carry_code(there, {"unnamed": "c" * 40})
    known = id(there)
    assert known in _carried
    del there
    gc.collect()
    assert known not in _carried


def test_a_ray_dataset_has_no_digest() -> None:
    with pytest.raises(UndigestibleError, match="no stable digest"):
        ray_dataset(types.SimpleNamespace(), Walk(None, lambda value: None))  # type: ignore[arg-type]
