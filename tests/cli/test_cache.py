"""`cache`: list, show, remove, collect and verify results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.storage.results import maintenance

DAYS = ["--days", "2024-01-01", "--days", "2024-01-02"]


@pytest.fixture
def store(flows: Path, call, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """A store that holds three results."""
    monkeypatch.setenv("PENSTOCK_STORE", str(folder / "store"))
    assert call("run", "pipelines.py:weekly", *DAYS).exit_code == 0
    return folder / "store"


def listed(call, *words: str) -> list[dict]:
    return json.loads(call("cache", "ls", *words, "--json").stdout)["results"]


def test_ls_lists_the_results_of_all_tasks_or_of_one(store: Path, call) -> None:
    assert call("cache", "ls").stdout.splitlines()[-1].startswith("3 results, ")
    assert [each["task"] for each in listed(call)] == ["pipelines:features"] * 2 + ["pipelines:train"]
    assert len(listed(call, "train")) == len(listed(call, "pipelines:train")) == 1
    done = call("cache", "ls", "trian")
    assert done.exit_code == 2
    assert "did you mean train?" in done.stderr


def test_ls_as_json(store: Path, call) -> None:
    document = json.loads(call("cache", "ls", "--json").stdout)
    assert document["schema"] == "penstock/cache-ls/1"
    assert sorted(document["results"][0]) == ["codec", "created", "expires", "generation", "key", "size", "task"]


def test_show_accepts_a_key_or_its_prefix(store: Path, call) -> None:
    (train,) = listed(call, "train")
    text = call("cache", "show", train["key"][:10]).stdout
    assert ["key", train["key"]] in [line.split() for line in text.splitlines()]
    assert "pipelines:train" in text
    assert "task_source" in text
    assert "of weekly" in text
    document = json.loads(call("cache", "show", train["key"], "--json").stdout)
    assert document["schema"] == "penstock/cache-show/1"
    assert document["record"]["key"] == train["key"]
    assert document["path"] is None  # a small JSON value lives in its record


@pytest.mark.needs("pandas", "duckdb")
@pytest.mark.slow
def test_the_code_that_show_prints_reads_the_table(store: Path, write, call) -> None:
    write(
        "table_flows.py",
        """
        import pandas as pd
        from penstock import INPUTS, flow, task

        @task(cache_policy=INPUTS)
        def table() -> pd.DataFrame:
            return pd.DataFrame({"a": [1, 2, 3]})

        @flow
        def f():
            return table()
        """,
    )
    assert call("run", "table_flows.py").exit_code == 0
    (found,) = listed(call, "table")
    document = json.loads(call("cache", "show", found["key"], "--json").stdout)
    import duckdb

    query = document["read_with"][0].partition('"')[2].removesuffix('"')
    assert duckdb.sql(query).fetchall() == [(1,), (2,), (3,)]
    assert document["path"] in call("cache", "show", found["key"]).stdout


@pytest.mark.needs("duckdb")
@pytest.mark.slow
def test_the_code_that_show_prints_reads_the_parts(store: Path, write, call) -> None:
    write(
        "parts_flows.py",
        """
        import pyarrow as pa
        from penstock import INPUTS, flow, task

        @task(cache_policy=INPUTS, result_serializer="parquet/dataset")
        def table():
            for n in range(3):
                yield pa.record_batch({"a": [n]})

        @flow
        def f():
            table()
        """,
    )
    assert call("run", "parts_flows.py").exit_code == 0
    (found,) = listed(call, "table")
    document = json.loads(call("cache", "show", found["key"], "--json").stdout)
    import duckdb

    query = document["read_with"][0].partition('"')[2].removesuffix('"')
    assert duckdb.sql(query).fetchall() == [(0,), (1,), (2,)]
    assert "in 1 parts, 3 rows" in call("cache", "show", found["key"]).stdout


def test_show_rejects_an_ambiguous_prefix(store: Path, call) -> None:
    done = call("cache", "show", "")
    assert done.exit_code == 2
    assert "3 results have a key that begins with" in done.stderr


def test_rm_asks_before_it_removes_a_key(store: Path, call) -> None:
    (train,) = listed(call, "train")
    assert call("cache", "rm", train["key"], input="n\n").exit_code == 1
    assert len(listed(call)) == 3
    # Before click 8.2, the end of the input means no.
    assert call("cache", "rm", train["key"], input="").exit_code in (1, 2)
    assert len(listed(call)) == 3
    assert call("cache", "rm", train["key"], input="y\n").exit_code == 0
    assert len(listed(call)) == 2


def test_rm_with_dry_run_removes_nothing(store: Path, call) -> None:
    done = call("cache", "rm", "--task", "features", "--dry-run")
    assert (done.exit_code, done.stdout.count("would remove")) == (0, 2)
    document = json.loads(call("cache", "rm", "--task", "features", "--dry-run", "--json").stdout)
    assert (document["dry_run"], document["removed"]) == (True, 2)
    assert len(listed(call)) == 3


def test_the_name_of_a_task_in_the_place_of_a_key_is_recognised(store: Path, call) -> None:
    done = call("cache", "rm", "features", "--yes")
    assert done.exit_code == 2
    hint = "features is a task: `penstock cache ls features` lists the keys of its results"
    assert f"{hint}, and --task features means all of them" in done.stderr
    assert f"{hint}\n" in call("cache", "show", "features").stderr


def test_rm_removes_the_results_of_a_task(store: Path, call) -> None:
    document = json.loads(call("cache", "rm", "--task", "features", "--yes", "--json").stdout)
    assert (document["schema"], document["removed"]) == ("penstock/cache-rm/1", 2)
    assert [each["task"] for each in listed(call)] == ["pipelines:train"]


def test_rm_expired_keeps_results_that_have_not_expired(store: Path, write, call) -> None:
    write(
        "expiring.py",
        """
        from datetime import timedelta
        from penstock import INPUTS, flow, task

        @task(cache_policy=INPUTS, cache_expiration=timedelta(microseconds=1))
        def soon() -> int:
            return 1

        @task(cache_policy=INPUTS, cache_expiration=timedelta(days=1))
        def later() -> int:
            return 2

        @flow
        def f() -> list[int]:
            return [soon(), later()]
        """,
    )
    call("run", "expiring.py")
    assert "expired" in call("cache", "ls", "soon").stdout
    assert call("cache", "rm", "--expired", "--yes").stdout == "removed 1 result\n"
    assert sorted({each["task"] for each in listed(call)}) == [
        "expiring:later",
        "pipelines:features",
        "pipelines:train",
    ]


def test_gc_removes_what_no_lookup_reaches(store: Path, call) -> None:
    folder = next((store / "results").glob("*train*/*"))
    leftover = folder / "000000.0123456789abcdef.json"
    leftover.write_bytes(b"[1, 2, 3]")
    dry = json.loads(call("cache", "gc", "--grace", "0", "--dry-run", "--json").stdout)
    assert (dry["schema"], dry["payloads"], dry["bytes"]) == ("penstock/cache-gc/1", 1, 9)
    assert leftover.exists()
    assert call("cache", "gc", "--grace", "0").stdout.startswith("removed 1 files")
    assert not leftover.exists()
    assert len(listed(call)) == 3


def test_gc_takes_the_grace_as_a_duration_or_in_seconds(store: Path, call, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    collect = maintenance.gc

    def gc(results: Any, *, grace_seconds: float, dry_run: bool) -> Any:
        seen.append(grace_seconds)
        return collect(results, grace_seconds=grace_seconds, dry_run=dry_run)

    monkeypatch.setattr(maintenance, "gc", gc)
    for grace in ([], *(["--grace", each] for each in ("0s", "0", "2.5", "12h", "1w"))):
        assert call("cache", "gc", *grace).exit_code == 0
    assert seen == [86400, 0, 0, 2.5, 12 * 3600, 7 * 86400]


@pytest.mark.parametrize("grace", ["-1", "1.2.3", "1 day", ""])
def test_gc_refuses_what_is_no_duration(store: Path, call, grace: str) -> None:
    done = call("cache", "gc", "--grace", grace)
    assert done.exit_code == 2
    assert "is not a duration such as 12h, 30d or 4w" in done.stderr


def test_verify_exits_with_1_if_something_is_damaged(store: Path, call) -> None:
    assert call("cache", "verify").exit_code == 0
    record = next((store / "results").glob("*train*/*/*.record.json"))
    record.write_bytes(record.read_bytes().replace(b'"codec":"json"', b'"codec":"JSON"'))
    done = call("cache", "verify", "--json")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert document["schema"] == "penstock/cache-verify/1"
    assert [problem["name"] for problem in document["problems"]] == [str(record.relative_to(store))]
    assert "1 problems" in call("cache", "verify").stdout


def test_gc_tells_what_it_purged_in_words_and_as_json(store: Path, call) -> None:
    assert call("cache", "rm", "--task", "train", "--yes").exit_code == 0
    would = call("cache", "gc", "--grace", "0", "--purge", "--dry-run").stdout
    assert "would remove" in would
    assert "would purge" in would
    document = json.loads(call("cache", "gc", "--grace", "0", "--purge", "--json").stdout)
    assert sorted(document["purged"]) == ["bytes", "closings", "recipes", "records"]


def test_a_store_is_not_copied_into_itself(store: Path, call) -> None:
    done = call("cache", "copy", str(store))
    assert done.exit_code == 2
    assert "cannot be copied into itself" in done.stderr


def test_show_tells_which_earlier_results_were_closed_and_why(store: Path, call) -> None:
    (train,) = listed(call, "train")
    assert call("cache", "rm", train["key"], "--yes").exit_code == 0
    assert call("run", "pipelines.py:weekly", *DAYS).exit_code == 0
    assert "generation 0" in call("cache", "show", train["key"]).stdout
