"""A class defined in a script is the same class on a hit: in the script, its import, the command and on workers."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.untraced

SCRIPT = """
    import dataclasses, enum, typing
    import pydantic
    from penstock import INPUTS, flow, task

    class Color(enum.Enum):
        RED = 1

    class Level(enum.IntEnum):
        LOW = 1

    @dataclasses.dataclass(frozen=True)
    class Score:
        value: int

    class Pair(typing.NamedTuple):
        a: int
        b: str

    class Model(pydantic.BaseModel):
        x: int

    class Plain:
        class Inner:
            def __init__(self, x): self.x = x
        def __init__(self, x): self.x = x
        def __eq__(self, other): return type(other) is Plain and other.x == self.x

    def told(text):
        import pathlib
        with (pathlib.Path(__file__).parent / "ran").open("a") as file: file.write(text)

    @task(cache_policy=INPUTS)
    def data(n):
        told("d")
        return [Color.RED, Level.LOW, Score(n), Pair(n, "x"), Model(x=n)]

    @task(cache_policy=INPUTS)
    def plain(n):
        told("p")
        return {"plain": Plain(n), "inner": Plain.Inner(n), "score": Score(n)}

    @task
    def seen_by_a_consumer(data, plain):
        color, level, score, pair, model = data
        match score:
            case Score(value=3): matched = True
            case _: matched = False
        return [
            color is Color.RED, level is Level.LOW, matched, score == Score(3), isinstance(pair, Pair),
            pair == Pair(3, "x"), type(model) is Model, model == Model(x=3), plain["plain"] == Plain(3),
            type(plain["inner"]) is Plain.Inner, plain["score"] == Score(3),
        ]

    @task
    def passed_on(value):
        return value

    @flow
    def check():
        there = seen_by_a_consumer(data(3), plain(3)).result()
        color, level, score, pair, model = passed_on(data(3)).result()
        held = plain(3).result()
        here = [
            color is Color.RED, level is Level.LOW, score == Score(3), isinstance(pair, Pair), model == Model(x=3),
            held["plain"] == Plain(3), type(held["inner"]) is Plain.Inner,
        ]
        return "good" if all(there) and all(here) else f"{there} {here}"

    if __name__ == "__main__":
        print(check())
"""


class Project:
    """A folder with the script, and a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "job.py").write_text(textwrap.dedent(SCRIPT))

    def run(self, *arguments: str, runner: str = "threads") -> str:
        """Return what a new process prints."""
        environment = {
            **os.environ,
            "PENSTOCK_STORE": str(self.folder / "store"),
            "PENSTOCK_RUNNER": runner,
            "PYTHONPATH": str(self.folder),
        }
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        return done.stdout + done.stderr

    def ran(self) -> str:
        """Return which tasks have run."""
        file = self.folder / "ran"
        return "".join(sorted(file.read_text())) if file.exists() else ""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


IMPORTED = ("-c", "import job; print(job.check())")
COMMANDED = ("-m", "penstock", "run", "job.py:check")
WAYS = {"script": ("job.py",), "imported": IMPORTED, "command": COMMANDED}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.needs("pydantic")
@pytest.mark.parametrize("first", WAYS)
def test_a_class_of_a_script_is_the_same_on_a_hit(project: Project, first: str) -> None:
    assert "good" in project.run(*WAYS[first])
    assert project.ran() == "dp"
    for way, arguments in WAYS.items():
        assert "good" in project.run(*arguments), way
    assert project.ran() == "dp"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.needs("pydantic")
@pytest.mark.parametrize("runner", ["processes?workers=2"])
def test_a_class_of_a_script_is_the_same_on_workers_and_back(project: Project, runner: str) -> None:
    assert "good" in project.run("job.py", runner=runner)
    assert "good" in project.run("job.py")
    assert "good" in project.run("job.py", runner=runner)
    assert "good" in project.run(*IMPORTED, runner=runner)
    assert project.ran() == "dp"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.needs("pydantic", "distributed", "ray")
@pytest.mark.parametrize("runner", ["dask", pytest.param("ray", marks=pytest.mark.in_ci)])
def test_a_class_of_a_script_is_the_same_on_clusters_and_back(project: Project, runner: str) -> None:
    for _ in range(2):
        assert "good" in project.run("job.py", runner=runner)
    assert "good" in project.run("job.py")
    assert project.ran() == "dp"
