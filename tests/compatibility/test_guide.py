"""The guide for users of Prefect is correct."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import penstock
import penstock.runners
from penstock import task
from penstock.errors import PenstockError

if os.environ.get("PENSTOCK_CORE_ONLY") == "1":
    pytest.skip("the documentation is not beside these tests", allow_module_level=True)

GUIDE = Path(__file__).parents[2] / "docs" / "coming-from-prefect.md"
ROWS = re.findall(
    r"^\| `(from prefect\S* import [^`]+)` \| `(from penstock\S* import [^`]+)` \|", GUIDE.read_text(), re.M
)


def test_the_guide_has_a_table_of_imports() -> None:
    assert len(ROWS) >= 12


@pytest.mark.parametrize("line", sorted({ours for _, ours in ROWS}))
def test_every_import_of_the_guide_works(line: str) -> None:
    exec(line, {})


@pytest.mark.parametrize(("theirs", "ours"), ROWS)
def test_the_same_things_keep_their_published_names(theirs: str, ours: str) -> None:
    renamed = {"ThreadPoolTaskRunner": "ThreadRunner", "ProcessPoolTaskRunner": "ProcessRunner"}
    names = [renamed.get(name, name) for name in theirs.split(" import ")[1].split(", ")]
    assert names == ours.split(" import ")[1].split(", ")


@pytest.mark.parametrize("name", ["isolation_level", "lock_manager", "key_storage"])
def test_policies_are_configured_by_their_published_names(name: str) -> None:
    from penstock import INPUTS

    value = "SERIALIZABLE" if name == "isolation_level" else "somewhere"
    assert getattr(INPUTS.configure(**{name: value}), name) == value


# -- what the guide says about options and calls -----------------------------------------------------------------------

CLAIMS = re.findall(r"^\| `(.+?)` \| (works|no effect|unsupported) \|", GUIDE.read_text(), re.M)


def fn(x: int = 1) -> int:
    return x


@task
def double(x: int, by: int = 2) -> int:
    return x * by


@task
async def double_async(x: int) -> int:
    return x * 2


@task
def items(n: int) -> Iterator[int]:
    yield from range(n)


class Thing:
    @task
    def method(self, x: int) -> int:
        return x


def test_the_guide_has_tables_of_options_and_calls() -> None:
    assert len(CLAIMS) > 50
    assert {said for _, said in CLAIMS} == {"works", "no effect", "unsupported"}


@pytest.mark.parametrize(("written", "said"), CLAIMS)
def test_each_statement_of_the_guide_about_options_and_calls_is_true(written: str, said: str) -> None:
    known = {**vars(penstock), **vars(penstock.runners), **globals(), "timedelta": timedelta, "asyncio": asyncio}
    if said == "unsupported":
        with pytest.raises((PenstockError, AttributeError)):
            eval(written, known)
    else:
        eval(written, known)
