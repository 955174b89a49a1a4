"""Serialisation of bundles and outcomes between a driver and its workers.

Uses flat tuples instead of objects, since cloudpickle takes longer for one object than many tasks run.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle
from msgspec import Struct, structs

from penstock.worker.failures import arrived
from penstock.worker.messages import Bundle, Call, Failure, Input, Outcome, OutcomeKind, Waits
from penstock.worker.shipping.values import Pickled, pickled

Logs = list[tuple[str, int, str]]
"""Log records: the logger's name, the level and the text of each."""


_WAITS = b"waits "


def _fields(kind: type[Struct]) -> Callable[[Any], tuple[Any, ...]]:
    return operator.attrgetter(*kind.__struct_fields__)


_of_call, _of_input, _of_outcome = _fields(Call), _fields(Input), _fields(Outcome)
_INPUTS = Call.__struct_fields__.index("inputs")
_SOURCE = Input.__struct_fields__.index("handle")
_HANDLE = Outcome.__struct_fields__.index("handle")


def pack_bundle(bundle: Bundle, on_the_way: Callable[[int, Any], Any] | None = None) -> bytes:
    """Serialise a bundle and set its size. Raises `SerializationError` if an argument cannot be pickled.

    `on_the_way(node, handle)` returns what replaces the handle of an input on the worker.
    """
    calls = [_flat_call(call, on_the_way) for call in bundle.calls]
    data = pickled(
        (bundle.number, calls, dict(bundle.resources), bundle.seconds),
        "the arguments of a call",
        named=lambda: {name: part for call in bundle.calls for name, part in call.arguments.items()},
    )
    bundle.size = len(data)
    return data


def unpack_bundle(data: bytes) -> Bundle:
    """Deserialise a bundle. Raises whatever unpickling the arguments raises."""
    number, flat, resources, seconds = cloudpickle.loads(data)
    calls = [_call(each) for each in flat]
    if len(calls) == 1 and len(calls[0].lent) == 1:
        calls[0].lent = ()  # nothing else has what was unpickled for it, not even another argument
    return Bundle(number, calls, resources, seconds)


def pack_waits(waits: Waits) -> bytes:
    """Serialise a worker's message in the middle of a bundle. Cannot be confused with a pickle."""
    return _WAITS + b"%d %d" % (waits.node, waits.waits)


def unpack_waits(data: bytes, bundle: Bundle) -> Waits | bytes:
    """Deserialise a message of `pack_waits` about this bundle. Returns other bytes unchanged."""
    if not data.startswith(_WAITS):
        return data
    node, waits = data.removeprefix(_WAITS).split()
    return Waits(bundle.number, int(node), waits == b"1")


def pack_outcomes(outcomes: Sequence[Outcome] | Failure, logs: Logs) -> bytes:
    """Serialise the outcomes of a bundle, or the failure because of which none could be tried, and the logs."""
    flat = outcomes if isinstance(outcomes, Failure) else [_flat_outcome(outcome) for outcome in outcomes]
    packed: bytes = cloudpickle.dumps((flat, logs))
    return packed


def unpack_outcomes(data: bytes) -> tuple[list[Outcome] | Failure, Logs]:
    """Deserialise the result of `pack_outcomes`. Runs no user's code, whose objects stay bytes.

    Raises whatever unpickling raises if the bytes are damaged.
    """
    flat, logs = cloudpickle.loads(data)
    return arrived(flat) if isinstance(flat, Failure) else [_outcome(each) for each in flat], logs


def none_read(bundle: Bundle, failure: Failure) -> list[Outcome]:
    """Return the outcomes of a bundle that its worker could not read."""
    kind: OutcomeKind = "failed" if len(bundle.calls) == 1 else "apart"
    return [Outcome(call.node, call.attempt, kind, failure=failure) for call in bundle.calls]


def _flat_call(call: Call, on_the_way: Callable[[int, Any], Any] | None) -> tuple[Any, ...]:
    if call.context is not None:
        call = structs.replace(call, context=None)  # context variables have no meaning in other processes
    if not call.inputs:
        return _of_call(call)
    flat = list(_of_call(call))
    flat[_INPUTS] = {node: _flat_input(node, source, on_the_way) for node, source in call.inputs.items()}
    return tuple(flat)


def _call(flat: Sequence[Any]) -> Call:
    call = Call(*flat)
    if call.inputs:
        call.inputs = {node: _input(source) for node, source in flat[_INPUTS].items()}
    return call


def _flat_input(node: int, source: Input, on_the_way: Callable[[int, Any], Any] | None) -> tuple[Any, ...]:
    flat, handle = _of_input(source), source.handle
    if type(handle) is Pickled:
        return (*flat[:_SOURCE], handle.data, *flat[_SOURCE + 1 :])
    if handle is None or on_the_way is None:
        return flat
    return (*flat[:_SOURCE], on_the_way(node, handle), *flat[_SOURCE + 1 :])


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
