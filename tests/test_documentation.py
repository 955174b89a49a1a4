"""The examples in the documentation run, and its links resolve."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.driver.state.transitions import UNFINISHED, Move, State
from penstock.runtime import FlowRunInfo, TaskRunInfo

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="an installed wheel has no documentation")


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_blocks_run_as_they_are_written(page: Path, tmp_path: Path) -> None:
    code = "\n".join(blocks(page))
    if not code:
        return
    script = tmp_path / "page.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_to_files_resolve(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


def test_the_readme_example_reuses_what_it_computed(tmp_path: Path) -> None:
    script = tmp_path / "readme.py"
    script.write_text(blocks(ROOT / "README.md")[0], encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, check=True)
    first, _, last = done.stdout.partition("1000.0")
    assert "4 miss" in first
    assert "1 hit, 3 pruned" in last


def test_the_design_note_of_the_driver_shows_its_table_of_transitions() -> None:
    note = (ROOT / "docs" / "design" / "0019-a-driver-without-threads.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z ]+) \| ([a-z ,]+) \| ([a-z]+) \| (.+) \|$", note, re.M)
    shown = {name: (set(_states(before)), State(after), why) for name, before, after, why in rows if name != "move"}
    assert shown == {move.name.lower().replace("_", " "): (set(move.sources), move.target, move.why) for move in Move}


def _states(text: str) -> list[State]:
    return list(UNFINISHED) if text == "any unfinished state" else [State(name) for name in text.split(", ")]


@pytest.mark.parametrize(("name", "info"), [("flow_run", FlowRunInfo), ("task_run", TaskRunInfo)])
def test_the_attributes_of_the_current_run_are_documented(name: str, info: type) -> None:
    (row,) = re.findall(
        rf"^\| `{name}` \| (.*) \|$", (ROOT / "docs/tasks.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert re.findall(r"`(\w+)`", row) == [each.name for each in dataclasses.fields(info)]
