"""Values passed to a call: its arguments, and values from earlier calls of its bundle."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from penstock.digests.large import PLAIN, Large
from penstock.digests.refs import OwnDefault, Ref
from penstock.graph.arguments import walk
from penstock.objects.copies import AsFar, too_deep
from penstock.worker.messages import Call, Input, Outcome


@dataclass(frozen=True, slots=True)
class Passed:
    """A value that is passed to a later call of the same bundle."""

    value: Any


def own_arguments(
    arguments: Mapping[str, Any],
    copies: Callable[[], Copies] = lambda: AsFar([]),
    *,
    names: Collection[str] | None = None,
) -> dict[str, Any]:
    """Return the arguments with private copies of those in `names`, or of all. Refs and Larges are kept.

    An object in two arguments becomes two objects: the key of a call does not tell which objects are the same.

    Args:
        arguments: The arguments by name.
        copies: Makes what copies the parts of one argument. By default, objects of unknown types are kept.
        names: The names of those to copy.
    """
    found = dict(arguments)
    for name in arguments if names is None else names:
        value = arguments[name]
        if type(value) not in STAY:
            own = functools.partial(_own, copies().of)
            try:
                found[name] = walk(value, own, own)
            except RecursionError:
                raise too_deep(value) from None
    return found


class Copies(Protocol):
    """Copies the parts of one argument."""

    def of(self, value: Any) -> Any: ...


def _own(copy: Callable[[Any], Any], leaf: Any) -> Any:
    return leaf if type(leaf) in (Ref, Large) else copy(leaf)


STAY = PLAIN | {OwnDefault, Ref, Large}


def part_of_whole(call: Call) -> str:
    """Return the digests of the results of which the call takes a part; empty if one is unknown."""
    known = [source.part_of or source.digest or "" for source in call.inputs.values()]
    return "+".join(known) if all(known) else ""


def has_succeeded(outcome: Outcome) -> bool:
    return outcome.kind in ("executed", "hit")


def take_over(call: Call, done: Mapping[int, Outcome]) -> bool:
    """Fill in the inputs from earlier calls of the bundle. Return False if one of them failed."""
    if not call.inner and not call.after:
        return True
    if not all(has_succeeded(done[node]) for node in (*call.inner, *call.after)):
        return False
    inputs = dict(call.inputs)
    for node in call.inner:
        outcome, source = done[node], inputs[node]
        inputs[node] = Input(
            outcome.digest,
            outcome.record,
            source.store,
            outcome.handle,
            source.shared,
            source.sole,
            outcome.part_of,
        )
        if outcome.expires is not None and (call.upstream_expires is None or outcome.expires < call.upstream_expires):
            call.upstream_expires = outcome.expires
    call.inputs = inputs
    return True


def expiry_after(after: Any, now: float) -> float | None:
    return None if after is None else now + float(after.total_seconds())
