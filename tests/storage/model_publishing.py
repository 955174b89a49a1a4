"""The rules of publishing as a small model, and a search through every state that it can reach.

There are one key, two writers, and a reader with an invalidator or a garbage collector. A write has one of three fates:
it lands and is answered; it lands and the answer is lost; or nothing is heard of it, and it lands at any later time, or
never. Participants that stop forever at some step are covered as well: the others continue without them.

This repeats what `penstock.storage.results.store` and `maintenance` do, so the search only checks the rules.
Simulations of the real code (`test_publish_simulation.py`) check that it follows them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

ABSENT, INVALIDATED, COLLECTED = 0, 8, 9
"""What a slot may be; else it is the record of writer n, as n + 1."""
TRIES = 3
INVALIDATIONS = 2
WRITERS = 2

LOOK, STAGE, COMMIT, SETTLE, TIDY, WON, ADOPTED, UNKNOWN, OVER = range(9)
"""Where a writer is."""


class Broken(Exception):
    """A promise that is broken in some state."""

    def __init__(self, invariant: str, why: str) -> None:
        super().__init__(f"{invariant}: {why}")
        self.invariant = invariant


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules, each of which can be broken."""

    put_if_absent: bool = True
    """False: a commit overwrites."""
    settle_by_reading: bool = True
    """False: "it exists" means "I lost"."""
    close_before_deleting: bool = True
    """False: payloads that no record names are deleted."""
    redirect: bool = True
    """False: an invalidation deletes the record."""
    payload_first: bool = True
    """False: the record is written before its payload."""


class State(NamedTuple):
    slots: tuple[int, ...]
    payloads: int
    """A bit for each writer's payload in each generation."""
    writers: tuple[tuple[int, int, int], ...]
    """Of each: where it is, in which generation, after how many tries."""
    other: tuple[int, ...]
    """The invalidator or the collector: where it is, in which generation, how often it closed one or what it listed."""
    reader: tuple[int, int, int]
    """Where it is, in which generation, whose record it saw."""
    late: tuple[tuple[str, int, int], ...]
    """Writes that nobody waits for any more: what, in which generation, whose."""
    first: tuple[int, ...]
    """The first record that was visible in each generation."""
    floor: int
    """Generations below it were closed by an invalidation that has returned."""
    promised: int
    """The floor when the reader began."""


def start(generations: int) -> State:
    return State(
        slots=(ABSENT,) * generations,
        payloads=0,
        writers=((LOOK, 0, 0),) * WRITERS,
        other=(0, 0, 0),
        reader=(0, 0, 0),
        late=(),
        first=(ABSENT,) * generations,
        floor=0,
        promised=0,
    )


def search(rules: Rules, other: str, *, generations: int = 2) -> int:
    """Return the number of states. Raise `Broken` for the nearest one that breaks a promise.

    `other` is `invalidator` or `collector`. A participant sent beyond the last generation leaves the model and stops.
    """
    first = start(generations)
    seen = {first}
    queue = deque([first])
    while queue:
        for state in _next(queue.popleft(), rules, other):
            if state not in seen:
                seen.add(state)
                _check(state)
                queue.append(state)
    return len(seen)


def _check(state: State) -> None:
    for generation, slot in enumerate(state.slots):
        if ABSENT < slot < INVALIDATED:
            if not state.payloads & _bit(generation, slot - 1):
                raise Broken("I2", "a record without its payload")
            if slot != state.first[generation]:
                raise Broken("I1", "two records of one generation")
            if generation < state.floor:
                raise Broken("I5", "a result that was invalidated is there")
    for number, (at, generation, _) in enumerate(state.writers):
        if at == WON and state.first[generation] != number + 1:
            raise Broken("I3", "success was told to whom the slot does not belong")


def _next(state: State, rules: Rules, other: str) -> Iterator[State]:
    for index, request in enumerate(state.late):
        rest = state.late[:index] + state.late[index + 1 :]
        landed, effect = _land(state, *request, rules)
        yield landed._replace(late=rest)
        if not effect:
            return  # it never will: only one way continues from here
    for number in range(WRITERS):
        yield from _write(state, number, rules)
    yield from (_invalidate if other == "invalidator" else _collect)(state, rules)
    yield from _read(state)


def _bit(generation: int, writer: int) -> int:
    return 1 << (generation * WRITERS + writer)


def _with(values: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*values[:index], value, *values[index + 1 :])


def _land(state: State, what: str, generation: int, who: int, rules: Rules) -> tuple[State, bool]:
    """Let a write take effect, and tell whether it did anything."""
    slot = state.slots[generation]
    if what == "commit":
        if slot != ABSENT and rules.put_if_absent:
            return state, False
        first = state.first
        if first[generation] == ABSENT:
            first = _with(first, generation, who + 1)
        return state._replace(slots=_with(state.slots, generation, who + 1), first=first), True
    if what == "close absent":
        if slot != ABSENT:
            return state, False
        return state._replace(slots=_with(state.slots, generation, COLLECTED)), True
    closed = INVALIDATED if rules.redirect else ABSENT
    return state._replace(slots=_with(state.slots, generation, closed)), True


def _sent(state: State, what: str, generation: int, who: int, rules: Rules) -> Iterator[tuple[State, str]]:
    """Yield the fates of a write: the state after it, and `done`, `refused` or `unknown`."""
    landed, effect = _land(state, what, generation, who, rules)
    yield landed, "done" if effect else "refused"
    if effect:
        yield landed, "unknown"
    request = (what, generation, who)
    if request in state.late or not effect:
        # A write without effect now has none later: a slot never becomes absent again, unless other rules are broken.
        yield state, "unknown"
    else:
        yield state._replace(late=tuple(sorted((*state.late, request)))), "unknown"


# -- writers ----------------------------------------------------------------------------------------------------------


def _write(state: State, number: int, rules: Rules) -> Iterator[State]:
    at, generation, tries = state.writers[number]
    if at > TIDY:
        return

    def to(state: State, at: int, generation: int = generation, tries: int = tries) -> State:
        if generation >= len(state.slots):
            at, generation, tries = OVER, 0, 0
        if at >= WON:
            tries = 0
        writers = state.writers
        return state._replace(writers=(*writers[:number], (at, generation, tries), *writers[number + 1 :]))

    slot = state.slots[generation]
    if at == LOOK:
        if slot == ABSENT:
            yield to(state, STAGE if rules.payload_first else COMMIT)
        elif slot < INVALIDATED:
            yield to(state, OVER)
        else:
            yield to(state, LOOK, generation + 1)
    elif at == STAGE:
        staged = state._replace(payloads=state.payloads | _bit(generation, number))
        yield to(staged, COMMIT if rules.payload_first else WON)
    elif at == COMMIT:
        for after, answer in _sent(state, "commit", generation, number, rules):
            if answer == "done":
                yield to(after, WON if rules.payload_first else STAGE)
            elif rules.settle_by_reading:
                yield to(after, SETTLE, tries=tries + 1)
            elif answer == "refused":
                yield to(after, TIDY)
            else:
                yield to(after, COMMIT if tries + 1 < TRIES else UNKNOWN, tries=tries + 1)
    elif at == SETTLE:
        if slot == ABSENT:
            yield to(state, COMMIT if tries < TRIES else UNKNOWN)
        elif slot == number + 1:
            yield to(state, WON)
        elif slot < INVALIDATED:
            yield to(state, TIDY)
        elif slot == COLLECTED:
            yield to(state, STAGE, generation + 1, 0)
        else:
            yield to(state, LOOK, generation + 1, 0)
    else:
        # It lands or never does. Landing late is the same as staying here for long, because nothing comes after it.
        yield to(state._replace(payloads=state.payloads & ~_bit(generation, number)), ADOPTED)
        yield to(state, ADOPTED)


# -- the others -------------------------------------------------------------------------------------------------------


def _invalidate(state: State, rules: Rules) -> Iterator[State]:
    at, generation, done = state.other
    if generation >= len(state.slots) or done == INVALIDATIONS:
        return
    slot, further = state.slots[generation], (0, generation + 1, done + 1)
    if at == 0:
        if slot >= INVALIDATED:
            yield state._replace(other=(0, generation + 1, done))
        elif slot != ABSENT:
            yield state._replace(other=(1, generation, done))
    elif slot >= INVALIDATED:
        yield state._replace(other=further, floor=max(state.floor, generation + 1))
    else:
        for after, answer in _sent(state, "redirect", generation, 0, rules):
            told = max(state.floor, generation + 1) if answer == "done" else state.floor
            yield after._replace(other=further, floor=told)


def _collect(state: State, rules: Rules) -> Iterator[State]:
    """List, read the slot, close it if it is empty, and delete what is in the list, generation by generation."""
    at, generation, listed = state.other
    if generation >= len(state.slots):
        return
    ours = ((1 << WRITERS) - 1) << (generation * WRITERS)
    if at == 0:
        yield state._replace(other=(1, generation, state.payloads & ours))
        return
    if at == 1:
        slot = state.slots[generation]
        over = (0, generation + 1, 0)
        if not listed:
            yield state._replace(other=over)
        elif slot == ABSENT and rules.close_before_deleting:
            for after, answer in _sent(state, "close absent", generation, 0, rules):
                yield after._replace(other=(2, generation, listed) if answer == "done" else over)
        elif slot == ABSENT or slot >= INVALIDATED:
            yield state._replace(other=(2, generation, listed))
        else:
            yield state._replace(other=(2, generation, listed & ~_bit(generation, slot - 1)))
        return
    if not listed:
        yield state._replace(other=(0, generation + 1, 0))
        return
    # One after the other. Each lands or never does; landing late is the same as staying here for long.
    lowest = listed & -listed
    left = (2, generation, listed & ~lowest)
    yield state._replace(payloads=state.payloads & ~lowest, other=left)
    yield state._replace(other=left)


def _read(state: State) -> Iterator[State]:
    """Start, follow redirects, and load. A payload may only be missing in a closed generation."""
    at, generation, saw = state.reader
    if at == 0:
        yield state._replace(reader=(1, 0, 0), promised=state.floor)
    elif at == 1:
        slot = state.slots[generation]
        if slot == ABSENT:
            yield state._replace(reader=(3, 0, 0), promised=0)
        elif slot >= INVALIDATED:
            beyond = generation + 1 >= len(state.slots)
            yield state._replace(reader=(3, 0, 0) if beyond else (1, generation + 1, 0))
        else:
            if generation < state.promised:
                raise Broken("I5", "a read that began after the invalidation yields what it closed")
            yield state._replace(reader=(2, generation, slot))
    elif at == 2:
        if state.payloads & _bit(generation, saw - 1):
            if state.first[generation] != saw:
                raise Broken("I4", "two values of one generation were read")
            yield state._replace(reader=(3, 0, 0), promised=0)
        elif ABSENT < state.slots[generation] < INVALIDATED:
            raise Broken("I2", "a reader is led to a payload that is gone")
        else:
            yield state._replace(reader=(3, 0, 0), promised=0)
