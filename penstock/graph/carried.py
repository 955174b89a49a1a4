"""Sends the digests of tasks' code to workers, where functions pickled by value arrive without their source."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any
from weakref import ref

from penstock.digests.code.byte_code import behaviour_digest
from penstock.digests.sources import (
    importable_name,
    task_code,
    task_source,
    task_source_of_unnamed,
    told_by_name,
)
from penstock.errors import DigestError
from penstock.graph.code.held_futures import refusal
from penstock.graph.policies import CachePolicy, Part
from penstock.objects.hidden import is_named

_Read = Callable[[Callable[..., Any]], str]
_READERS: dict[str, tuple[str, _Read]] = {
    "task_source": ("task_source", task_source),
    "task_code": ("task_code", task_code),
    "unnamed": ("task_source", task_source_of_unnamed),
}
"""By component of a policy: the one of keys, and the function that computes it."""
_carried: dict[int, tuple[ref[Callable[..., Any]], dict[str, str]]] = {}
"""By id, since callables may be unhashable; entries live as long as the callable."""


def code_digests(fn: Callable[..., Any], policy: CachePolicy, identity: str) -> dict[str, str]:
    """Return the components that a function's code adds to keys under a policy. Raises `DigestError`."""
    carried = _carried_by(fn)
    found = {}
    for what in _wanted(fn, policy, identity):
        component, read = _READERS[what]
        try:
            found[component] = carried.get(what) or read(fn)
        except DigestError as error:
            if (refused := refusal(fn, identity.rpartition(":")[2])) is not None:
                raise refused from error
            raise
    return found


def code_to_carry(fn: Callable[..., Any], policy: CachePolicy, identity: str) -> dict[str, str]:
    """Return the argument of `carry_code` for the receiving process; empty if something has no digest, which a call of
    the task then reports."""
    carried = _carried_by(fn)
    try:
        code = {what: carried.get(what) or _READERS[what][1](fn) for what in _wanted(fn, policy, identity)}
    except DigestError:
        return {}
    return {**code, **_behaviour(fn)} if code else {}


def _behaviour(fn: Callable[..., Any]) -> dict[str, str]:
    """Return the digest of the bytecode of a function that the receiving process imports, and so may have changed."""
    return {_BEHAVIOUR: behaviour_digest(fn)} if isinstance(fn, FunctionType) and is_named(fn) else {}


_BEHAVIOUR = "behaviour"


def carry_code(fn: Callable[..., Any], code: Mapping[str, str]) -> None:
    """Set the digests of a function's code in this process, unless it has imported another function of that name."""
    if _BEHAVIOUR in code and code[_BEHAVIOUR] != _behaviour(fn).get(_BEHAVIOUR):
        return
    key = id(fn)

    def forget(_: object) -> None:
        _carried.pop(key, None)

    if code:
        with contextlib.suppress(TypeError):  # callables without weak references have their code read here
            _carried[key] = ref(fn, forget), {**_carried_by(fn), **code}


Code = tuple[int, tuple[str, ...]]
"""The id of a function, and the digests of its code that count."""


def code_id(fn: Callable[..., Any], policy: CachePolicy, identity: str) -> Code:
    """Return what tells the code that counts under a policy from that of other tasks, as long as the function lives."""
    return id(fn), _wanted(fn, policy, identity)


def _wanted(fn: Callable[..., Any], policy: CachePolicy, identity: str) -> tuple[str, ...]:
    components = tuple(part.value for part in (Part.TASK_SOURCE, Part.TASK_CODE) if part in policy.parts)
    if components or identity != ":".join(importable_name(fn)):  # set with `key_name`
        return components
    return () if told_by_name(fn) else ("unnamed",)


def _carried_by(fn: Callable[..., Any]) -> Mapping[str, str]:
    known = _carried.get(id(fn))
    return known[1] if known is not None and known[0]() is fn else {}
