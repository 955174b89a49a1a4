"""Functions of `functools.singledispatch` reach workers: by name from modules, otherwise with what is registered."""

from __future__ import annotations

import collections.abc
import functools
import io
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.objects.code_pickles import CodePickler
from penstock.objects.live import dumps


@functools.singledispatch
def of_a_module(value: Any) -> str:
    return "any"


@of_a_module.register
def _(value: int) -> str:
    return "int"


class OfAModule:
    @functools.singledispatchmethod
    def kind(self, value: Any) -> str:
        return "any"


def again(value: Any) -> Any:
    return pickle.loads(dumps(value))


def make() -> Any:
    @functools.singledispatch
    def depth(value: Any) -> int:
        """Return the depth of a value."""
        return 0

    @depth.register(list)
    def _(value: list[Any]) -> int:
        return 1 + max(map(depth, value), default=0)

    @depth.register
    def _(value: int | str) -> int:
        return -1

    return depth


def test_a_dispatching_function_of_a_module_is_pickled_by_its_name() -> None:
    assert again(of_a_module) is of_a_module
    assert again(OfAModule) is OfAModule


def test_a_local_dispatching_function_is_pickled_with_its_implementations() -> None:
    depth = again(make())
    assert (depth([[None]]), depth([]), depth(2.5), depth(3), depth("x")) == (2, 1, 0, -1, -1)
    assert list(depth.registry) == [object, list, int, str]
    assert depth.__wrapped__ is depth.registry[object]


def test_it_looks_as_before_and_takes_further_implementations() -> None:
    made = make()
    made.limit = 3
    depth = again(made)
    names = ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "limit")
    assert [getattr(depth, name) for name in names] == [getattr(made, name) for name in names]
    depth.register(float, lambda value: 9)
    assert (depth(2.5), made(2.5)) == (9, 0)
    with pytest.raises(TypeError, match="depth requires at least 1"):
        depth()


def test_implementations_can_be_found_from_each_other() -> None:
    first, function = again([make().registry[list], make()])
    assert first([[None]]) == 2
    assert function([[None]]) == 2


def test_abstract_classes_dispatch_to_what_is_registered_with_them_later() -> None:
    @functools.singledispatch
    def kind(value: Any) -> str:
        return "any"

    kind.register(collections.abc.Sized, lambda value: "sized")

    class Drawn(collections.abc.Hashable):
        def __hash__(self) -> int:
            return 1

    kind.register(Drawn, lambda value: "drawn")
    copied, drawn = again((kind, Drawn))
    assert (copied([]), copied(3)) == ("sized", "any")
    drawn.register(int)
    assert copied(3) == "drawn"


def test_a_decorated_dispatching_function_keeps_what_it_copied() -> None:
    def twice(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def called(*args: Any) -> Any:
            return function(*args), function(*args)

        return called

    depth = again(twice(make()))
    assert depth([None]) == (1, 1)
    depth.register(float, lambda value: 9)
    assert depth(2.5) == (9, 9)
    assert depth.dispatch(float)(0) == 9
    assert depth.registry[float](0) == 9
    assert again(twice(of_a_module)).dispatch is of_a_module.dispatch


def test_a_dispatching_method_is_pickled_with_its_class() -> None:
    class Scale:
        by = 3

        @functools.singledispatchmethod
        def scaled(self, value: Any) -> Any:
            return value

        @scaled.register
        def _(self, value: int) -> int:
            return value * self.by

        @functools.singledispatchmethod
        @classmethod
        def made(cls, value: Any) -> str:
            return cls.__name__

    Scale.scaled.register(list, lambda self, value: [self.scaled(each) for each in value])  # type: ignore[attr-defined]
    file = io.BytesIO()
    CodePickler(file).dump(Scale)
    scale = pickle.loads(file.getvalue())
    assert scale().scaled([1, "x", [2]]) == [3, "x", [6]]
    assert scale.made(3) == "Scale"


SCRIPT = """
    import functools, os, sys
    from penstock import INPUTS, TASK_CODE, flow, task

    if __name__ == "__main__":
        class Box:
            def __init__(self, inside): self.inside = inside

            @functools.singledispatchmethod
            def filled(self, value): return str(value)

        @functools.singledispatch
        def size(value): return 0

        @size.register
        def _(value: int): return value

        @size.register
        def _(value: list): return sum(map(size, value))

        @size.register
        def _(value: Box): return 100 + size(value.inside)

        @Box.filled.register
        def _(self, value: list): return [size(self), *value]

        @task(cache_policy=INPUTS + TASK_CODE)
        def sizes(n):
            os.write(1, b"ran ")
            return size([n, [n], Box([n]), None]), Box(n).filled([n])

        @task(cache_policy=INPUTS + TASK_CODE)
        def applied(function, n):
            os.write(1, b"ran ")
            return function(n)

        @flow
        def everything():
            return sizes(2), applied(size, [3, 4])

        for runner in sys.argv[1:]:
            print(everything.with_options(runner=runner)())
"""


@pytest.mark.slow
@pytest.mark.parametrize("runners", [("processes", "threads"), ("threads", "processes")])
def test_a_dispatching_function_of_a_script_runs_on_workers_under_the_same_key(
    tmp_path: Path, runners: tuple[str, str]
) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        [sys.executable, str(script), *runners], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.split("\n") == ["ran ran ((106, [102, 2]), 7)", "((106, [102, 2]), 7)", ""]


REGISTERING = """
    from importlib.resources import as_file

    class Shape:
        pass

    @as_file.register
    def _(shape: Shape): return "shape"
"""
USING = """
    import sys
    from importlib.resources import as_file
    from penstock import INPUTS, TASK_CODE, flow, task
    from penstock.errors import RunnerError
    import shapes

    @task(cache_policy=INPUTS + TASK_CODE)
    def shown():
        return as_file(shapes.Shape())

    @flow
    def show():
        return shown()

    if __name__ == "__main__":
        REGISTER
        for runner in ("processes", "threads"):
            try:
                print(show.with_options(runner=runner)())
            except RunnerError as error:
                print(error.what)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("register", "said"),
    [
        ("pass", ["shape", "shape"]),
        (
            "as_file.register(shapes.Shape, lambda shape: 'other')",
            ["a worker imports other code than the driver: importlib.resources._common.as_file", "other"],
        ),
    ],
    ids=["in a module", "in the script"],
)
def test_a_dispatching_function_of_a_package_runs_with_what_the_driver_registered_or_not_at_all(
    tmp_path: Path, register: str, said: list[str]
) -> None:
    (tmp_path / "shapes.py").write_text(textwrap.dedent(REGISTERING))
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(USING.replace("REGISTER", register)))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines() == said
