"""`runs rm` and `runs gc` remove ended runs, and keep results and active runs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import click
import pytest

from penstock import load_settings
from penstock.journals.journal import RunRecord, list_records, run_name
from penstock.storage import open_store
from penstock.storage.stores.base import Store

DAY = ["--days", "2024-01-01"]


@pytest.fixture
def store(flows: Path, call) -> Store:
    """The store after two runs."""
    for _ in range(2):
        assert call("run", "pipelines.py:weekly", *DAY).exit_code == 0
    return open_store(load_settings().store)


def ids(store: Store) -> list[str]:
    return [record.id for record in list_records(store)]


def grow_old(store: Store, run_id: str) -> None:
    folder = store.local_path(f"runs/{run_id}")
    assert folder is not None
    for path in Path(folder).rglob("*"):
        os.utime(path, (time.time() - 40 * 86400,) * 2)


def unfinished(store: Store, **facts: object) -> str:
    """Write the record of a run that never recorded its end."""
    record = RunRecord(id="20200101-000000-abcdef01", flow="f", state="running", **facts)  # type: ignore[arg-type]
    store.put(run_name(record.id, "run.json"), json.dumps({"v": 1, "id": record.id, "flow": "f"}).encode())
    return record.id


def test_rm_removes_a_run_and_keeps_its_results(store: Store, call) -> None:
    latest, first = ids(store)
    done = call("runs", "rm", first, "--yes")
    assert done.exit_code == 0
    assert done.stdout.startswith("removed 1 run: 3 files")
    assert ids(store) == [latest]
    assert "ran 0" in call("run", "pipelines.py:weekly", *DAY).stdout


def test_rm_asks_first_and_a_dry_run_removes_nothing(store: Store, call) -> None:
    assert call("runs", "rm", "last", input="n\n").exit_code == 1
    assert call("runs", "rm", "last", "--dry-run").stdout.startswith("would remove 1 run")
    assert len(ids(store)) == 2


def test_gc_removes_runs_that_ended_long_ago(store: Store, call) -> None:
    latest, first = ids(store)
    grow_old(store, first)
    assert json.loads(call("runs", "gc", "--keep", "30d", "--dry-run", "--json").stdout)["runs"] == 1
    assert ids(store) == [latest, first]
    assert json.loads(call("runs", "gc", "--keep", "30d", "--json").stdout)["runs"] == 1
    assert ids(store) == [latest]


def test_a_run_that_may_still_be_active_is_not_removed(store: Store, call) -> None:
    run_id = unfinished(store)
    grow_old(store, run_id)
    done = call("runs", "rm", run_id, "--yes")
    assert done.exit_code == 2
    assert "may still be active" in done.stderr
    assert "1 run may still be active" in call("runs", "gc", "--keep", "30d").stdout
    assert run_id in ids(store)
    assert call("runs", "rm", run_id, "--yes", "--force").exit_code == 0
    assert run_id not in ids(store)


def test_parameters_are_removed_with_the_last_run_that_uses_them(store: Store, call, tmp_path: Path) -> None:
    data = [f"data={'x' * 100_000}"]
    (tmp_path / "big.py").write_text("from penstock import flow\n@flow\ndef f(data: str) -> int: return len(data)\n")
    for _ in range(2):
        assert call("run", str(tmp_path / "big.py") + ":f", "-p", *data).exit_code == 0
    first, second = (record.id for record in list_records(store) if record.flow == "f")
    call("runs", "rm", first, "--yes")
    assert len(list(store.list("parameters/"))) == 1
    call("runs", "rm", second, "--yes")
    assert list(store.list("parameters/")) == []


def test_an_invalid_age_is_a_usage_error(call) -> None:
    assert call("runs", "gc", "--keep", "soon").exit_code == 2


def test_without_a_terminal_a_question_names_the_option_that_answers_it(
    store: Store, call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_the_end(*_: object, **__: object) -> bool:
        raise click.Abort

    monkeypatch.setattr(click, "confirm", at_the_end)
    run_id = unfinished(store)
    asked = call("runs", "rm", run_id, "--force")
    assert asked.exit_code == 2
    assert "add --yes" in asked.stderr
    assert run_id in ids(store)
