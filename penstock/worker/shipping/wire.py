"""Bundles and outcomes as bytes between a driver and its workers.

Flat tuples instead of objects: to pickle one object takes longer than many a task, since cloudpickle asks about each.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle

from penstock.worker.failures import arrived
from penstock.worker.messages import Bundle, Call, Failure, Input, Outcome, OutcomeKind, Waits
from penstock.worker.shipping.values import Pickled, pickled

Logs = list[tuple[str, int, str]]
"""What was logged: the logger's name, the level and the text of each record."""


_WAITS = b"waits "


def _fields(kind: type[Any]) -> Callable[[Any], tuple[Any, ...]]:
    return operator.attrgetter(*(field.name for field in dataclasses.fields(kind)))


_of_call, _of_input, _of_outcome = _fields(Call), _fields(Input), _fields(Outcome)
_INPUTS = [field.name for field in dataclasses.fields(Call)].index("inputs")
_SOURCE = [field.name for field in dataclasses.fields(Input)].index("handle")
_HANDLE = [field.name for field in dataclasses.fields(Outcome)].index("handle")


def pack_bundle(bundle: Bundle) -> bytes:
    """What `unpack_bundle` reads; notes in the bundle how much it is.

    Raises `RunnerError` if an argument does not pickle.
    """
    data = pickled(
        (bundle.number, [_flat_call(call) for call in bundle.calls], dict(bundle.resources), bundle.seconds),
        "the arguments of a call",
        named=lambda: {name: part for call in bundle.calls for name, part in call.arguments.items()},
    )
    bundle.size = len(data)
    return data


def unpack_bundle(data: bytes) -> Bundle:
    """Raises what unpickling the arguments raises."""
    number, calls, resources, seconds = cloudpickle.loads(data)
    return Bundle(number, [_call(flat) for flat in calls], resources, seconds)


def pack_waits(waits: Waits) -> bytes:
    """A word of a worker in the middle of a bundle; no pickle begins like it."""
    return _WAITS + b"%d %d" % (waits.node, waits.waits)


def unpack_waits(data: bytes, bundle: Bundle) -> Waits | bytes:
    """What `pack_waits` packed, of this bundle; the bytes themselves if they are something else."""
    if not data.startswith(_WAITS):
        return data
    node, waits = data.removeprefix(_WAITS).split()
    return Waits(bundle.number, int(node), waits == b"1")


def pack_outcomes(outcomes: Sequence[Outcome] | Failure, logs: Logs) -> bytes:
    """What came of a bundle's calls, or why none of them could be tried, and what they logged."""
    flat = outcomes if isinstance(outcomes, Failure) else [_flat_outcome(outcome) for outcome in outcomes]
    packed: bytes = cloudpickle.dumps((flat, logs))
    return packed


def unpack_outcomes(data: bytes) -> tuple[list[Outcome] | Failure, Logs]:
    """Raises what unpickling raises if the bytes are damaged; nothing in them is the user's, except inside of bytes."""
    flat, logs = cloudpickle.loads(data)
    return arrived(flat) if isinstance(flat, Failure) else [_outcome(each) for each in flat], logs


def none_read(bundle: Bundle, failure: Failure) -> list[Outcome]:
    """Outcomes of a bundle that its worker could not read."""
    kind: OutcomeKind = "failed" if len(bundle.calls) == 1 else "apart"
    return [Outcome(call.node, call.attempt, kind, failure=failure) for call in bundle.calls]


def _flat_call(call: Call) -> tuple[Any, ...]:
    if call.context is not None:
        call = dataclasses.replace(call, context=None)  # context variables mean nothing elsewhere
    if not call.inputs:
        return _of_call(call)
    flat = list(_of_call(call))
    flat[_INPUTS] = {node: _flat_input(source) for node, source in call.inputs.items()}
    return tuple(flat)


def _call(flat: Sequence[Any]) -> Call:
    call = Call(*flat)
    if call.inputs:
        call.inputs = {node: _input(source) for node, source in flat[_INPUTS].items()}
    return call


def _flat_input(source: Input) -> tuple[Any, ...]:
    flat = _of_input(source)
    return flat if type(source.handle) is not Pickled else (*flat[:_SOURCE], source.handle.data, *flat[_SOURCE + 1 :])


def _input(flat: tuple[Any, ...]) -> Input:
    source = Input(*flat)
    source.handle = _handle(source.handle)
    return source


def _flat_outcome(outcome: Outcome) -> tuple[Any, ...]:
    flat = _of_outcome(outcome)
    if type(outcome.handle) is not Pickled:
        return flat
    return (*flat[:_HANDLE], outcome.handle.data, *flat[_HANDLE + 1 :])


def _outcome(flat: tuple[Any, ...]) -> Outcome:
    outcome = Outcome(*flat)
    outcome.handle = _handle(outcome.handle)
    if outcome.failure is not None:
        outcome.failure = arrived(outcome.failure)
    return outcome


def _handle(flat: Any) -> Any:
    return Pickled(flat) if type(flat) is bytes else flat
