"""`runs`, `show` and `why`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

DAY = ["--days", "2024-01-01"]
RUN_FIELDS = [
    *("id", "flow", "entry", "parameters", "resumable", "state", "runner", "host", "pid", "started", "finished"),
    *("seconds", "attempts", "counts", "tasks", "stats", "error"),
]


@pytest.fixture
def ran(flows: Path, call) -> Path:
    """A folder in which one run failed and one completed."""
    (flows.parent / "broken").touch()
    call("run", "pipelines.py:shaky", "--n", "4")
    (flows.parent / "broken").unlink()
    call("run", "pipelines.py:weekly", *DAY)
    return flows.parent


# -- runs -------------------------------------------------------------------------------------------------------------


def test_runs_lists_each_run_with_its_state(ran: Path, call) -> None:
    done = call("runs")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()[1:]
    assert sorted(line.split()[1:3] for line in lines) == [["shaky", "failed"], ["weekly", "completed"]]
    assert len(call("runs", "--limit", "1").stdout.splitlines()) == 2


def test_runs_as_json(ran: Path, call) -> None:
    document = json.loads(call("runs", "--json").stdout)
    assert document["schema"] == "penstock/runs/1"
    assert all(list(run) == RUN_FIELDS for run in document["runs"])


def test_an_empty_store_has_no_runs(call) -> None:
    assert call("runs").stdout.startswith("no runs in ")
    assert json.loads(call("runs", "--json").stdout)["runs"] == []


# -- show -------------------------------------------------------------------------------------------------------------


def test_show_names_what_failed_and_where(ran: Path, call) -> None:
    (failed,) = [run for run in json.loads(call("runs", "--json").stdout)["runs"] if run["state"] == "failed"]
    done = call("show", failed["id"])
    assert done.exit_code == 0
    assert "fragile (node 1, attempt 1): ZeroDivisionError: division by zero" in done.stdout
    assert "in divide" in done.stdout
    assert "execution.py" not in done.stdout
    assert f"{ran}/pipelines.py:shaky" in done.stdout


def test_show_has_a_row_per_task_and_the_slowest_calls(ran: Path, call) -> None:
    (weekly,) = [run for run in json.loads(call("runs", "--json").stdout)["runs"] if run["flow"] == "weekly"]
    text = call("show", weekly["id"][-8:]).stdout
    tasks = text.partition("\ntasks\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split() for line in tasks] == [
        ["task", "miss", "executed"],
        ["features", "1", "1"],
        ["train", "1", "1"],
    ]
    assert "\nslowest\n" in text


def test_show_as_json(ran: Path, call) -> None:
    document = json.loads(call("show", "last", "--json").stdout)
    assert document["schema"] == "penstock/show/1"
    assert sorted(document) == ["failures", "locks_down", "locks_lost", "notes", "run", "schema", "slowest", "waits"]
    assert list(document["run"]) == RUN_FIELDS
    assert sorted(document["slowest"][0]) == ["attempt", "node", "seconds", "size", "task", "worker"]


def test_show_prints_the_last_attempt_of_a_resumed_run(flows: Path, call) -> None:
    (flows.parent / "broken").touch()
    call("run", "pipelines.py:shaky")
    assert json.loads(call("show", "last", "--json").stdout)["failures"] != []
    (flows.parent / "broken").unlink()
    call("resume", "last")
    assert json.loads(call("show", "last", "--json").stdout)["failures"] == []
    assert "started 2 times" in call("show", "last").stdout


# -- why --------------------------------------------------------------------------------------------------------------


def why(call, *words: str) -> str:
    done = call("why", *words)
    assert done.exit_code == 0, done.output
    return done.stdout


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))


@pytest.fixture
def why_after(penstock):
    """Run `penstock why` in a new process, which sees the edited file."""

    def why_after(*words: str) -> str:
        done = penstock("why", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return why_after


def test_why_reports_a_task_that_was_never_computed(flows: Path, call) -> None:
    text = why(call, "pipelines.py:weekly", *DAY)
    assert "features (node 0): miss\n    never computed\n" in text
    assert "input values is not known before features has run" in text


def test_why_has_nothing_to_explain_about_a_cached_result(ran: Path, call) -> None:
    assert why(call, "pipelines.py:weekly", *DAY) == "weekly: every result is stored\n"
    assert "train (node 1): hit" in why(call, "pipelines.py:weekly", *DAY, "train")


def test_why_names_a_changed_input_with_its_value(ran: Path, call) -> None:
    text = why(call, "pipelines.py:weekly", "--days", "2024-01-09")
    assert "    input day changed: now datetime.date(2024, 1, 9)\n" in text
    assert "input n" not in text
    assert "code" not in text


def test_why_can_be_limited_to_a_node_or_a_task(ran: Path, call) -> None:
    one = why(call, "pipelines.py:weekly", "--days", "2024-01-09", "0")
    assert one.startswith("features (node 0): miss\n")
    assert "train" not in one
    assert why(call, "pipelines.py:weekly", "--days", "2024-01-09", "features") == one
    done = call("why", "pipelines.py:weekly", *DAY, "feature")
    assert done.exit_code == 2
    assert "did you mean features?" in done.stderr


@pytest.mark.slow
def test_why_names_changed_code(ran: Path, why_after) -> None:
    edit(ran / "pipelines.py", "return day.day * n", "return day.day * n + 1")
    text = why_after("pipelines.py:weekly", *DAY)
    lines = [
        *("features (node 0): miss", "    function pipelines.features changed"),
        *("         def features(day, n):", "        -    return day.day * n", "        +    return day.day * n + 1"),
        "    compared with",
    ]
    assert "\n".join(lines) in text


@pytest.mark.slow
def test_why_traces_a_miss_to_the_changed_task_upstream(ran: Path, why_after) -> None:
    edit(ran / "pipelines.py", "return day.day * n", "return day.day * n + 1")
    text = why_after("pipelines.py:weekly", *DAY, "train")
    assert "train (node 1): miss\n    input values is not known before features has run\n" in text


def test_why_names_the_environment_of_an_earlier_result_if_it_differs(
    ran: Path, call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.storage.results import producers

    assert "made with" not in why(call, "pipelines.py:weekly", "--days", "2024-01-09")
    monkeypatch.setattr(producers, "_packages", lambda: {"pandas": "2.2.3"})
    call("run", "pipelines.py:weekly", "--days", "2024-01-02")
    monkeypatch.setattr(producers, "_packages", lambda: {"pandas": "3.1.1", "numpy": "2.1"})
    monkeypatch.setattr(producers.platform, "python_version", lambda: "3.99.0")
    text = why(call, "pipelines.py:weekly", "--days", "2024-01-09")
    assert "    made with Python 3." in text
    assert ", here it is 3.99.0; made with pandas 2.2.3, here it is 3.1.1\n" in text


def test_plan_and_why_give_the_same_reasons(ran: Path, call) -> None:
    document = json.loads(call("why", "pipelines.py:weekly", "--days", "2024-01-09", "--json").stdout)
    text = call("plan", "pipelines.py:weekly", "--days", "2024-01-09").stdout
    assert [node["reasons"][0] for node in document["nodes"]] == [
        "input day changed: now datetime.date(2024, 1, 9)",
        "input values is not known before features has run",
    ]
    assert "input day changed\n" in text
    assert "input values is not known before features has run\n" in text


def test_calls_with_the_same_reasons_are_grouped(ran: Path, call) -> None:
    days = [word for day in range(1, 8) for word in ("--days", f"2024-02-0{day}")]
    text = why(call, "pipelines.py:weekly", *days)
    assert (
        "features (7 nodes): miss\n    input day changed\n        node 0: input day changed: now datetime.date" in text
    )
    assert text.count("features (") == 1


def test_why_as_json(ran: Path, call) -> None:
    document = json.loads(call("why", "pipelines.py:weekly", "--days", "2024-01-09", "--json").stdout)
    assert document["schema"] == "penstock/why/1"
    features, train = document["nodes"]
    assert sorted(features) == ["differences", "key", "nearest", "node", "reasons", "status", "task"]
    assert [(each["component"], each["kind"]) for each in features["differences"]] == [("inputs.day", "changed")]
    assert [(each["component"], each["kind"]) for each in train["differences"]] == [("inputs.values", "open")]


def test_reasons_other_than_changes_are_explained_in_words(write, call) -> None:
    write(
        "reasons.py",
        """
        from datetime import timedelta
        from penstock import INPUTS, RUN_ID, flow, task

        @task(cache_policy=INPUTS, cache_expiration=timedelta(microseconds=1))
        def short_lived() -> int:
            return 1

        @task(cache_policy=INPUTS, refresh_cache=True)
        def refreshed() -> int:
            return 2

        @task(cache_policy=INPUTS + RUN_ID)
        def private() -> int:
            return 3

        @task
        def plain() -> int:
            return 4

        @task(cache_policy=INPUTS)
        def removed() -> int:
            return 5

        @task(cache_key_fn=lambda context, parameters: parameters["key"])
        def keyed(key: str | None) -> int:
            return 6

        @task(cache_key_fn=lambda context, parameters: str(parameters["value"]))
        def keyed_below(value: int) -> int:
            return 7

        @flow
        def all_of_them(key: str = "one") -> list[int]:
            values = [short_lived(), refreshed(), private(), plain(), removed(), keyed(key), keyed(None)]
            return [*values, keyed_below(plain())]
        """,
    )
    assert call("run", "reasons.py").exit_code == 0
    assert call("cache", "rm", "--task", "removed", "--yes").exit_code == 0
    text = why(call, "reasons.py", "--key", "two")
    for said in (
        "short_lived (node 0): miss\n    expired at ",
        "refreshed (node 1): miss\n    refresh_cache is set\n",
        "    its policy contains RUN_ID, so runs share no results\n",
        "plain (2 nodes): bypass\n    no cache policy\n",
        "removed (node 4): miss\n    its result was removed (invalidated)\n",
        "keyed (node 5): miss\n    the result of its key function: one → two\n",
        "keyed (node 6): bypass\n    its key function says: do not cache this call\n",
        "keyed_below (node 8): miss\n    an input changes with every run: decided by its value\n",
        "    the result of its key function is not known yet\n",
    ):
        assert said in text, text
