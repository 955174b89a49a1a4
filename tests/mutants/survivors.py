"""Mutants that no test needs to notice, each with the reason: `survivors.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.changes import Change

KEPT = Path(__file__).with_name("survivors.toml")


@dataclass(frozen=True)
class Survivor:
    """A mutant that breaks no guarantee, identified by its text and not by its line number."""

    file: str
    function: str
    text: str
    before: str
    after: str
    because: str

    @property
    def name(self) -> tuple[str, str, str, str, str]:
        return self.file, self.function, self.text, self.before, self.after


def kept() -> dict[tuple[str, str, str, str, str], Survivor]:
    found = [Survivor(**entry) for entry in tomllib.loads(KEPT.read_text(encoding="utf-8")).get("equivalent", [])]
    return {one.name: one for one in found}


def entry(change: Change) -> str:
    """Return the entry to write into the file, with the reason left blank."""
    file, function, text, before, after = (_quoted(part) for part in change.name)
    return (
        f"[[equivalent]]\nfile = {file}\nfunction = {function}\ntext = {text}\n"
        f'before = {before}\nafter = {after}\nbecause = ""\n'
    )


def _quoted(text: str) -> str:
    return f"'{text}'" if "'" not in text else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
