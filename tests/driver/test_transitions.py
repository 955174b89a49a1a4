"""The table of transitions is the one that its design note shows."""

from __future__ import annotations

import re
from pathlib import Path

from penstock.driver.state.transitions import UNFINISHED, Move, State

NOTE = Path(__file__).parents[2] / "docs" / "design" / "0019-a-driver-without-threads.md"


def test_the_design_note_shows_the_table_of_transitions() -> None:
    rows = re.findall(r"^\| ([a-z ]+) \| ([a-z ,]+) \| ([a-z]+) \| (.+) \|$", NOTE.read_text(encoding="utf-8"), re.M)
    shown = {name: (set(_states(before)), State(after), why) for name, before, after, why in rows if name != "move"}
    assert shown == {move.name.lower().replace("_", " "): (set(move.sources), move.target, move.why) for move in Move}


def _states(text: str) -> list[State]:
    return list(UNFINISHED) if text == "any unfinished state" else [State(name) for name in text.split(", ")]
