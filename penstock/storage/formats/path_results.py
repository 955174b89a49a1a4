"""Results that are paths, or hold some: what the files were like, and whether they still are.

A path is only worth what lies there. Of a `Path` to an existing file the record has its size, its time of change and,
if it is small, a digest of its content; a look-up that finds another file, or none, is a miss. Where the file lived on
another machine, it is not there. A str is a str, whatever it names.
"""

from __future__ import annotations

import json
import os
import pathlib
import stat
from collections.abc import Iterable
from typing import Any

from blake3 import blake3

_SMALL = 1 << 20
"""Bytes up to which content counts as well: a file that was only touched is the same."""
_MOST = 100
"""Paths that are noted of one result; of more, the first."""


def note_of_paths(paths: Iterable[pathlib.Path]) -> dict[str, str]:
    """What a record says of the files and folders that a value's paths lead to, as they are now."""
    notes = {os.fsdecode(path): note for path in list(paths)[:_MOST] if (note := _note(path)) is not None}
    try:
        return {"files": json.dumps(notes, ensure_ascii=True)} if notes else {}
    except ValueError:
        return {}


def merged_facts(facts: Iterable[dict[str, str]]) -> dict[str, str]:
    """What records say of several parts, as what is said of the whole."""
    merged: dict[str, str] = {}
    for each in facts:
        files = json.loads(merged.get("files", "{}")) | json.loads(each.get("files", "{}"))
        merged |= each | ({"files": json.dumps(files, ensure_ascii=True)} if files else {})
    return merged


def lost_path(noted: str) -> str | None:
    """Why a result must not be used, by what its record says of files; None if all are as they were."""
    for path, (kind, size, changed, digest) in json.loads(noted).items():
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return f"{path} is gone"
        if _kind(found) != kind:
            return f"{path} is no {kind} any more"
        touched = kind == "file" and (found.st_size, found.st_mtime_ns) != (size, changed)
        if touched and (found.st_size != size or not digest or _digest(path, size) != digest):
            return f"{path} has changed"
    return None


def _note(path: pathlib.Path) -> list[Any] | None:
    try:
        found = os.stat(path)
        kind = _kind(found)
        if kind != "file":
            return [kind, 0, 0, ""] if kind else None
        return [kind, found.st_size, found.st_mtime_ns, _digest(os.fspath(path), found.st_size)]
    except (OSError, ValueError):
        return None  # there is nothing, or nothing that we may look at: then there is nothing to go, either


def _kind(found: os.stat_result) -> str:
    return "file" if stat.S_ISREG(found.st_mode) else "folder" if stat.S_ISDIR(found.st_mode) else ""


def _digest(path: str, size: int) -> str:
    """Of a small file's content; empty for a large one."""
    if size > _SMALL:
        return ""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        return blake3(file.read(_SMALL + 1)).hexdigest()
