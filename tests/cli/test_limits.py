"""`limits set`, `ls` and `rm`."""

from __future__ import annotations

import json


def test_limits_are_set_listed_and_lifted(call) -> None:
    assert call("limits", "ls").stdout.startswith("no limits in ")
    assert call("limits", "set", "db", "10").exit_code == 0
    assert call("limits", "set", "gpu", "2").exit_code == 0
    assert [line.split() for line in call("limits", "ls").stdout.splitlines()[1:]] == [["db", "10"], ["gpu", "2"]]
    assert json.loads(call("limits", "ls", "--json").stdout)["limits"] == {"db": 10, "gpu": 2}
    assert call("limits", "set", "gpu", "5/30s").exit_code == 0
    assert json.loads(call("limits", "ls", "--json").stdout)["rates"] == {"gpu": "5/30s"}
    assert call("limits", "set", "gpu", "many").exit_code == 2
    assert call("limits", "rm", "gpu").exit_code == 0
    assert json.loads(call("limits", "ls", "--json").stdout)["limits"] == {"db": 10}


def test_a_limit_is_a_number_from_one(call) -> None:
    assert call("limits", "set", "db", "0").exit_code == 2


def test_lifting_what_is_no_limit_says_so(call) -> None:
    done = call("limits", "rm", "db")
    assert (done.exit_code, "no limit of db" in done.output) == (1, True)
