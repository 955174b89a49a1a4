"""Digests of the code of modules before and after an edit."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from types import ModuleType

from penstock.digests.sources import task_code

Project = Callable[..., ModuleType]


def task_in(module: ModuleType) -> Callable[..., object]:
    """Return the function of the task `f`, which may be a method of the class `C`."""
    found = getattr(module, "C", module).f
    return getattr(found, "fn", found)


def digest_of(project: Project, **files: str) -> str:
    """Return the `task_code` of the task `f` in the first of some modules."""
    return task_code(task_in(project(**files)))


def changes(project: Project, text: str, old: str, new: str, **files: str) -> bool:
    """Return whether an edit of a module changes the digest of its task, which is otherwise stable."""
    text = textwrap.dedent(text)
    before = digest_of(project, m=text, **files)
    assert before == digest_of(project, m=text, **files)
    edited = {name: other.replace(old, new) for name, other in {"m": text, **files}.items()}
    assert edited != {"m": text, **files}
    return before != digest_of(project, **edited)
