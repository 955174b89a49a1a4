"""Whether a stored result can be used by this process, with its Python, packages and files."""

from __future__ import annotations

from penstock.storage.formats.versions import PYTHON, version_of
from penstock.storage.records.records import ResultRecord

_NO_PROMISE = frozenset({"polars"})
"""Packages whose pickles another version may silently read as something else."""


def unfit(record: ResultRecord) -> str | None:
    """Return the reason why a result cannot be used here, or None if it can. Reads no payload."""
    facts = record.about.details
    if not facts:
        return None
    if facts.get("code") == "by value" and facts.get("python", PYTHON) != PYTHON:
        return f"it contains code of Python {facts['python']}, and this is Python {PYTHON}"
    for name, stored, here in _other_versions(facts):
        if name in _NO_PROMISE:
            return f"it is a pickle of {name} {stored}, and " + (f"this is {here}" if here else "that is not installed")
    if "files" in facts:
        from penstock.storage.formats.path_results import lost_path  # only needed by paths

        try:
            return lost_path(facts["files"])
        except (ValueError, TypeError, AttributeError):
            return "what its record says about files cannot be read"
    return None


def other_versions(record: ResultRecord) -> str:
    """Describe the versions with which a result was pickled if they differ from those here; empty if they do not."""
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
