"""The traceback of a script that fails: the frames of the user, and none of Penstock's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import penstock

SCRIPT = """
import asyncio, json, sys, threading

from penstock import flow, task


@task
def bad(x):
    try:
        return 1 / x
    except ZeroDivisionError as error:
        raise ValueError("no") from error

@flow
def inner(x):
    return bad(x).result() + 1

@flow
def outer(x):
    return inner(x)

@flow
def handling(x):
    try:
        bad(x).result()
    except ValueError as error:
        raise RuntimeError("again") from error

@flow
def library(x):
    json.loads("{")

@flow
async def waiting(x):
    return await bad(x)

@flow
def interrupted(x):
    raise KeyboardInterrupt

@task
def sleeping(x):
    threading.Event().wait(0.5)

@flow
def late(x):
    sleeping(x).result(timeout=0.01)

CALLS = {
    "late": lambda: late(0),
    "flow": lambda: outer(0),
    "run": lambda: outer.run(0).result(),
    "retried": lambda: outer.with_options(retries=1)(0),
    "task": lambda: bad(0),
    "handling": lambda: handling(0),
    "library": lambda: library(0),
    "async": lambda: asyncio.run(waiting(0)),
    "arguments of a flow": lambda: outer(0, 1),
    "arguments of a task": lambda: bad(0, 1),
    "option": lambda: task(retrys=1),
    "interrupted": lambda: interrupted(0),
}

if __name__ == "__main__":
    CALLS[sys.argv[1]]()
"""
HERE = os.path.dirname(penstock.__file__) + os.sep


def printed(folder: Path, call: str, **environment: str) -> str:
    (folder / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py", call],
        cwd=folder,
        env={**os.environ, "PENSTOCK_HOME": str(folder / "home"), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    return done.stderr


def functions(text: str) -> list[list[str]]:
    """Return the function names in each traceback."""
    tracebacks = text.split("Traceback (most recent call last):\n")[1:]
    return [re.findall(r'^  File "[^"]*", line \d+, in (\S+)', each, re.MULTILINE) for each in tracebacks]


@pytest.mark.parametrize(
    ("call", "frames"),
    [
        ("flow", [["bad"], ["<module>", "<lambda>", "outer", "inner", "bad"]]),
        ("run", [["bad"], ["<module>", "<lambda>", "outer", "inner", "bad"]]),
        ("retried", [["bad"], ["<module>", "<lambda>", "outer", "inner", "bad"]]),
        ("task", [["bad"], ["<module>", "<lambda>", "bad"]]),
        ("handling", [["bad"], ["handling", "bad"], ["<module>", "<lambda>", "handling"]]),
        ("arguments of a flow", [["<module>", "<lambda>"]]),
        ("arguments of a task", [["<module>", "<lambda>"]]),
        ("option", [["<module>", "<lambda>"]]),
        ("interrupted", [["<module>", "<lambda>", "interrupted"]]),
    ],
)
def test_a_script_that_fails_shows_only_the_users_frames(tmp_path: Path, call: str, frames: list[list[str]]) -> None:
    text = printed(tmp_path, call)
    assert functions(text) == frames
    assert HERE not in text
    assert "contextlib" not in text


def test_frames_of_libraries_around_the_users_code_stay(tmp_path: Path) -> None:
    (frames,) = functions(printed(tmp_path, "library"))
    assert frames[:3] == ["<module>", "<lambda>", "library"]
    assert "raw_decode" in frames
    text = printed(tmp_path, "async")
    assert functions(text)[-1][-2:] == ["waiting", "bad"]
    assert "run_until_complete" in functions(text)[-1]
    assert HERE not in text


def test_the_log_level_debug_shows_all_frames(tmp_path: Path) -> None:
    assert HERE in printed(tmp_path, "flow", PENSTOCK_LOG_LEVEL="DEBUG")


def test_another_excepthook_stays_in_place(tmp_path: Path) -> None:
    text = "import sys\nsys.excepthook = mine = lambda *_: None\nfrom penstock import task\ntask(max)\n"
    subprocess.run([sys.executable, "-c", f"{text}assert sys.excepthook is mine"], check=True, timeout=120)


def test_a_timeout_of_a_future_shows_the_line_that_waited(tmp_path: Path) -> None:
    assert functions(printed(tmp_path, "late")) == [["<module>", "<lambda>", "late"]]
