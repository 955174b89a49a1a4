"""`limits set`, `ls` and `rm`."""

from __future__ import annotations

import json


def test_limits_are_set_listed_and_removed(call) -> None:
    assert call("limits", "ls").stdout.startswith("no limits in ")
    assert call("limits", "set", "db", "10").stdout == "db: at most 10 at once\n"
    assert call("limits", "set", "gpu", "2").exit_code == 0
    assert [line.split() for line in call("limits", "ls").stdout.splitlines()[1:]] == [["db", "10"], ["gpu", "2"]]
    assert json.loads(call("limits", "ls", "--json").stdout)["limits"] == {"db": 10, "gpu": 2}
    assert call("limits", "set", "gpu", "5/30s").stdout == "gpu: at most 5/30s\n"
    assert json.loads(call("limits", "ls", "--json").stdout)["rates"] == {"gpu": "5/30s"}
    for wrong in ("many", "-1"):
        refused = call("limits", "set", "gpu", wrong)
        assert (refused.exit_code, f"'{wrong}' is neither a number nor a rate" in refused.stderr) == (2, True)
    assert call("limits", "rm", "gpu").stdout == "gpu: limit removed\n"
    assert call("limits", "rm", "gpu").exit_code == 1
    assert json.loads(call("limits", "ls", "--json").stdout)["limits"] == {"db": 10}


def test_a_limit_of_zero_pauses_and_is_reported_as_a_pause(call) -> None:
    done = call("limits", "set", "db", "0")
    assert (done.exit_code, "paused" in done.output) == (0, True)
    assert "paused" in call("limits", "ls").stdout
    assert json.loads(call("limits", "ls", "--json").stdout)["limits"] == {"db": 0}


def test_an_invalid_limit_is_refused(call) -> None:
    for odd in ("-1", "1e400", "nan", "1000000000", "1/0s", "0/second", "1/0.0000001s"):
        assert call("limits", "set", "db", "--", odd).exit_code == 2, odd


def test_a_planted_limit_does_not_break_the_list(call, folder) -> None:
    assert call("limits", "set", "gpu", "2", "--store", "s").exit_code == 0
    (folder / "s" / "limits" / "tag-db.json").write_text('{"limit": 1e400}')
    done = call("limits", "ls", "--store", "s")
    assert done.exit_code == 0
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [["gpu", "2"]]
    assert "limits/tag-db.json" in done.stderr
    (problem,) = json.loads(call("limits", "ls", "--store", "s", "--json").stdout)["unreadable"]
    assert problem["where"] == "limits/tag-db.json"


def test_removing_a_limit_that_does_not_exist_is_reported(call) -> None:
    done = call("limits", "rm", "db")
    assert (done.exit_code, "db has no limit" in done.output) == (1, True)
