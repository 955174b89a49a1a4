"""Whether a result that is there can be used here: by another Python, with other packages, without its files."""

from __future__ import annotations

from penstock.storage.formats.versions import PYTHON, version_of
from penstock.storage.records.records import ResultRecord

_NO_PROMISE = frozenset({"polars"})
"""Packages whose pickles another version may read as something else, without a word."""


def unfit(record: ResultRecord) -> str | None:
    """Why a result counts as absent here; None if nothing speaks against it. Reads no payload."""
    facts = record.about.details
    if not facts:
        return None
    if facts.get("code") == "by value" and facts.get("python", PYTHON) != PYTHON:
        return f"it holds code of Python {facts['python']}, and this is {PYTHON}"
    for name, stored, here in _other_versions(facts):
        if name in _NO_PROMISE:
            return f"it is a pickle of {name} {stored}, and this is {here or 'not there'}"
    if "files" in facts:
        from penstock.storage.formats.path_results import lost_path  # few results are paths

        try:
            return lost_path(facts["files"])
        except (ValueError, TypeError, AttributeError):
            return "what its record says of files cannot be read"
    return None


def other_versions(record: ResultRecord) -> str:
    """Which versions a result was pickled with that are others here, for people; empty if none."""
    facts = record.about.details
    told = [f"{name} {stored} (here {here or 'none'})" for name, stored, here in _other_versions(facts)]
    if facts.get("python", PYTHON) != PYTHON:
        told.append(f"Python {facts['python']} (here {PYTHON})")
    return ", ".join(told)


def _other_versions(facts: dict[str, str]) -> list[tuple[str, str, str]]:
    found = []
    for entry in facts.get("packages", "").split(", "):
        name, _, stored = entry.partition(" ")
        here = version_of(name) if name else ""
        if name and here != stored:
            found.append((name, stored, here))
    return found
