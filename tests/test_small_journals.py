"""Small promises of logs and records of runs that are damaged, absent or odd."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from penstock import events
from penstock.errors import StoreError, StoreUnreachable
from penstock.journals import journal
from penstock.journals.journal import RunRecord, read_events, read_record
from penstock.storage import open_store
from penstock.storage.stores.memory import MemoryStore


def test_a_run_that_does_not_exist_is_an_error_that_says_how_to_list_them() -> None:
    with pytest.raises(StoreError, match="there is no run nowhere") as absent:
        read_record(MemoryStore(), "nowhere")
    assert "penstock runs" in str(absent.value)


def test_a_line_too_long_for_an_event_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_LINE", 2000)
    monkeypatch.setattr(journal, "_CHUNK", 512)
    store = open_store(str(tmp_path))
    lost = [events.LogLost(at=float(n), reason=f"reason {n}") for n in range(3)]
    first, second, third = (events.encode_event(each).rstrip(b"\n") + b"\n" for each in lost)
    name = journal.run_name("r1", journal._LOG)
    long = b'{"x":"' + b"y" * 5000 + b'"}\n'
    store.append(name, first + long + second + b"no event\n" + third + b"z" * 5000)  # type: ignore[attr-defined]
    assert list(read_events(store, "r1")) == lost


def test_a_name_that_is_no_text_does_not_keep_a_run_from_being_recorded() -> None:
    record = RunRecord(id="r1", flow="odd \ud800 name")
    read = msgspec.json.decode(journal._encoded(record), type=RunRecord)
    assert read.id == "r1"
    assert read.flow.startswith("odd ")


def test_a_store_that_is_away_is_not_mistaken_for_damaged_records() -> None:
    class Away(MemoryStore):
        def get_many(self, names: object) -> list[bytes | None]:
            raise StoreUnreachable("no answer")

    class Damaged(MemoryStore):
        def get_many(self, names: list[str]) -> list[bytes | None]:  # type: ignore[override]
            if "b" in names:
                raise StoreError("a broken disk")
            return [name.encode() for name in names]

    with pytest.raises(StoreUnreachable):
        journal._each(Away(), ["a", "b"])
    assert journal._each(Damaged(), ["a", "b", "c"]) == [b"a", None, b"c"]
