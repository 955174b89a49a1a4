"""What the code of tasks digests to, carried to workers: functions that travel by value come there without a source."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any
from weakref import ref

from penstock.digests.sources import (
    importable_name,
    task_code,
    task_source,
    task_source_of_unnamed,
    told_by_name,
)
from penstock.errors import DigestError
from penstock.graph.policies import CachePolicy, Part

_Read = Callable[[Callable[..., Any]], str]
_READERS: dict[str, tuple[str, _Read]] = {
    "task_source": ("task_source", task_source),
    "task_code": ("task_code", task_code),
    "unnamed": ("task_source", task_source_of_unnamed),
}
"""By what is carried: the component of keys that it is, and what reads it."""
_carried: dict[int, tuple[ref[Callable[..., Any]], dict[str, str]]] = {}
"""By identity, since an object that is called may have no hash; as long as it lives."""


def code_digests(fn: Callable[..., Any], policy: CachePolicy, identity: str) -> dict[str, str]:
    """The components that its code adds to keys under the policy; raises `DigestError`."""
    carried = _carried_by(fn)
    found = {}
    for what in _wanted(fn, policy, identity):
        component, read = _READERS[what]
        found[component] = carried.get(what) or read(fn)
    return found


def code_to_carry(fn: Callable[..., Any], policy: CachePolicy, identity: str) -> dict[str, str]:
    """What `carry_code` takes, where the function arrives; nothing if something has no digest: whoever calls the task
    then learns why."""
    carried = _carried_by(fn)
    try:
        return {what: carried.get(what) or _READERS[what][1](fn) for what in _wanted(fn, policy, identity)}
    except DigestError:
        return {}


def carry_code(fn: Callable[..., Any], code: Mapping[str, str]) -> None:
    """From now on these are the digests of the function's code in this process."""
    key = id(fn)

    def forget(_: object) -> None:
        _carried.pop(key, None)

    if code:
        with contextlib.suppress(TypeError):  # of what cannot be referred to weakly, the code is read here
            _carried[key] = ref(fn, forget), {**_carried_by(fn), **code}


def _wanted(fn: Callable[..., Any], policy: CachePolicy, identity: str) -> list[str]:
    parts = [part.value for part in (Part.TASK_SOURCE, Part.TASK_CODE) if part in policy.parts]
    if parts or identity != ":".join(importable_name(fn)):  # which its author gave, with `key_name`
        return parts
    return [] if told_by_name(fn) else ["unnamed"]


def _carried_by(fn: Callable[..., Any]) -> Mapping[str, str]:
    known = _carried.get(id(fn))
    return known[1] if known is not None and known[0]() is fn else {}
