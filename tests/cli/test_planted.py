"""Planted records, names and messages neither control the terminal nor break a list."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock import events
from penstock.cli.output import duration, moment, print_document, size, table
from penstock.cli.run_log import MOST_FAILURES, SLOWEST, RunLog
from penstock.errors import StoreError
from penstock.journals.journal import MAX_LINE, RunRecord, list_records, read_events, read_record
from penstock.objects.texts import clean
from penstock.storage import LocalStore

ESCAPES = "\x1b[2J\x1b]0;pwned\x07\x9b31m\r\x08\u202egnp.exe\u2066\u200b\u2028\ufeff\U000e0041"
STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
GOOD = "20260101-000000-00000001"


@pytest.fixture
def store(folder: Path) -> LocalStore:
    return LocalStore(folder / "store")


def plant(store: LocalStore, run: str, data: bytes) -> None:
    """Write past the store's own checks, as somebody with access to its files can."""
    path = Path(store.local_path(f"runs/{run}/run.json") or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def record(id: str, **more: Any) -> bytes:
    return msgspec.json.encode(RunRecord(**{"id": id, "flow": "f", "state": "completed", **more}))


@pytest.fixture
def penstock(call: Any, folder: Path) -> Any:
    """Run `penstock ...` on that store, and check that its output contains no control sequence."""

    def penstock(*words: str) -> Any:
        done = call(*words, "--store", str(folder / "store"))
        assert not isinstance(done.exception, Exception), done.exception
        assert STEERING.search(done.output) is None
        return done

    return penstock


def test_no_output_controls_the_terminal(penstock: Any, store: LocalStore) -> None:
    names = {"flow": ESCAPES, "entry": ESCAPES, "parameters": {ESCAPES: ESCAPES}, "error": ESCAPES, "host": ESCAPES}
    tasks = {ESCAPES: {"executed": 1, ESCAPES: 2}}
    plant(store, GOOD, record(GOOD, **names, tasks=tasks, runner=ESCAPES, state=ESCAPES))
    failed = events.NodeFailed(at=0, node=1, task=ESCAPES, attempt=1, error=ESCAPES, message=ESCAPES, traceback=ESCAPES)
    parked = events.NodeParked(at=0, node=2, task=ESCAPES, key=ESCAPES, holder={"run": ESCAPES, "host": ESCAPES})
    for event in (failed, parked):
        store.append(f"runs/{GOOD}/events.jsonl", events.encode_event(event))
    store.put("limits/tag-%1B%5B2J.json", b'{"limit": 3}')
    store.put("limits/tag-db.json", b'{"limit": "\\u001b[2J"}')
    for command in (["runs"], ["show", GOOD], ["limits", "ls"], ["cache", "ls"], ["cache", "du"], ["locks", "ls"]):
        assert penstock(*command).exit_code == 0
        document = json.loads(penstock(*command, "--json").stdout)
        assert document["schema"].startswith("penstock/")
    shown = json.loads(penstock("show", GOOD, "--json").stdout)
    assert shown["run"]["flow"] == ESCAPES  # Programs read it unchanged.
    assert shown["failures"][0]["message"] == ESCAPES


ODD: dict[str, bytes] = {
    "empty": b"",
    "not UTF-8": b'{"id": "\xff\xfe", "flow": "f"}',
    "lone surrogates": b'{"id": "x", "flow": "\\ud800"}',
    "deep": b'{"id": "x", "flow": "f", "stats": {"a": ' + b"[" * 60_000,
    "deep and whole": b'{"id": "x", "flow": "f", "stats": ' + b'{"a":' * 9_000 + b"1" + b"}" * 9_000 + b"}",
    "huge": b'{"id": "x", "flow": "' + b"f" * 5_000_000 + b'"}',
    "a list": b"[]",
    "of another type": b'{"id": 5, "flow": []}',
    "a number beyond all": b'{"id": "x", "flow": "f", "pid": ' + b"9" * 9_000 + b"}",
    "another run's": record(GOOD),
}


@pytest.mark.parametrize("odd", ODD)
def test_one_bad_record_breaks_no_list(penstock: Any, store: LocalStore, odd: str) -> None:
    bad = "20260101-000000-00000002"
    plant(store, GOOD, record(GOOD))
    plant(store, bad, ODD[odd])
    assert [run["id"] for run in json.loads(penstock("runs", "--json").stdout)["runs"]] == [GOOD]
    assert GOOD in penstock("runs").stdout
    assert penstock("show", GOOD).exit_code == 0
    done = penstock("show", bad)
    assert done.exit_code == 3
    assert "damaged" in done.output


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_what_is_not_a_file_breaks_no_list(penstock: Any, store: LocalStore, kind: str) -> None:
    bad = Path(store.local_path("runs/20260101-000000-00000002/run.json") or "")
    plant(store, GOOD, record(GOOD))
    bad.parent.mkdir(parents=True)
    {"pipe": os.mkfifo, "folder": Path.mkdir, "link": lambda path: path.symlink_to("/etc/passwd")}[kind](bad)
    assert [run["id"] for run in json.loads(penstock("runs", "--json").stdout)["runs"]] == [GOOD]
    assert penstock("show", GOOD).exit_code == 0


@pytest.mark.parametrize("number", [-1, 0, 2**31, 2**63, 10**30])
def test_numbers_that_no_record_can_hold_break_no_list(penstock: Any, store: LocalStore, number: int) -> None:
    named = dict.fromkeys(("host", "boot", "namespace", "process_started"), "x")
    data = json.loads(record(GOOD, state="running", **named)) | {"pid": number, "counts": {"hit": number}}
    data |= {"started": 1e300, "seconds": -1e300, "finished": -1e300, "tasks": {"t": {"hit": number}}}
    plant(store, GOOD, json.dumps(data).encode())
    for command in (["runs"], ["show", GOOD]):
        assert penstock(*command).exit_code == 0
        json.loads(penstock(*command, "--json").stdout)


def test_a_run_is_not_shown_the_record_of_another(store: LocalStore) -> None:
    other = "20260101-000000-00000002"
    plant(store, GOOD, record(GOOD))
    plant(store, other, record(GOOD))
    with pytest.raises(StoreError, match="damaged"):
        read_record(store, other)
    assert [found.id for found in list_records(store)] == [GOOD]


def finished(node: int, seconds: float) -> events.NodeFinished:
    return events.NodeFinished(at=0, node=node, task="t", how="executed", attempt=1, seconds=seconds)


def test_a_log_is_read_as_a_stream(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for node in range(3):
        store.append("runs/r/events.jsonl", events.encode_event(finished(node, 1.0)))
    store.append("runs/r/events.jsonl", b"no event\n\xff\n" + b"[" * 100_000 + b"\n")
    store.append("runs/r/events.jsonl", b"x" * (MAX_LINE + 5) + b"\n")
    store.append("runs/r/events.jsonl", events.encode_event(finished(3, 1.0)))
    store.append("runs/r/events.jsonl", events.encode_event(finished(4, 1.0))[:-9])
    log = read_events(store, "r")
    assert next(log).node == 0  # type: ignore[attr-defined]
    assert [event.node for event in log] == [1, 2, 3]  # type: ignore[attr-defined]


def test_only_the_shown_part_of_a_log_is_kept_in_memory() -> None:
    def log() -> Any:
        for node in range(MOST_FAILURES + 7):
            yield events.NodeFailed(at=0, node=node, task="t", attempt=1, error="E", message="m")
            yield finished(node, node / 10)

    seen = RunLog.of(log())
    assert (len(seen.failures), seen.failed) == (MOST_FAILURES, MOST_FAILURES + 7)
    assert [event.node for event in seen.slowest] == [MOST_FAILURES + 6 - n for n in range(SLOWEST)]


def test_an_unreadable_log_is_reported_with_its_run(penstock: Any, store: LocalStore) -> None:
    plant(store, GOOD, record(GOOD))
    os.mkfifo(store.local_path(f"runs/{GOOD}/events.jsonl") or "")
    done = penstock("show", GOOD)
    assert done.exit_code == 0
    assert "not a regular file" in done.stdout


def test_texts_for_people_show_hidden_characters() -> None:
    assert clean("a\x1b[31m\u202eb\nc\t\ud800") == "a\\x1b[31m\\u202eb\nc\t\\ud800"
    assert table(("a",), [("x\ny",), ("z" * 5_000,)]).splitlines()[1] == "x\\ny"
    assert all(len(line) <= 200 for line in table(("a",), [("z" * 5_000,)]).splitlines())
    assert clean("naïve café 🎉 👨‍👩‍👧 日本") == "naïve café 🎉 👨‍👩‍👧 日本"


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -1e300, 1e300])
def test_formatting_numbers_for_people_never_fails(odd: float) -> None:
    assert duration(odd)
    assert moment(odd) is not None
    assert size(10**400) == "?"


def test_documents_can_hold_values_that_json_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    print_document("x", {"text": "\x9b\u202e\U000e0041", "number": 10**30})
    out = capsys.readouterr().out
    assert STEERING.search(out) is None
    assert json.loads(out) == {"schema": "penstock/x/1", "text": "\x9b\u202e\U000e0041", "number": 10**30}
