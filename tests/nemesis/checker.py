"""The invariants of a history, whatever was killed, paused or cut off. Each is checked in one pass.

    I1   a record of a generation is never replaced by another one, and a slot never goes back
    I2   a record never points to a missing payload, or to other bytes than it states
    I3   success is only reported to the writer that the slot belongs to
    I4   all callers of one generation get the same bytes
    I5   a read that starts after an invalidation has returned never gives the earlier result
    I6   two sessions hold one lock at once only if one of them has lost its lease, and that one is informed
    I7   the fencing tokens of a key strictly grow, even if a Redis restarts empty
    I9   every waiter ends within lease + poll + margin after the last event that could affect it, and after the first
         release that it must have noticed
    I10  at the end no lock is held, no heartbeat runs, and the store holds only the payloads of its records

Only what is certain is judged: an operation takes effect at an unknown moment between `invoke` and `ok`, so two of them
are ordered only if one ended before the other started.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.nemesis.history import Event, Operation, operations

LOST_AFTER = 0.8
"""The fraction of a lease after which a session considers itself lost at the latest."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The parameters of the campaign, in seconds."""

    lease: float = 1.0
    poll: float = 0.5
    """The longest pause between two polls of a waiter."""
    call: float = 1.0
    """The maximum duration of a call to a server that does not answer."""
    margin: float = 2.0
    """The delay that a busy machine may add."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise, and the lines that show it."""

    invariant: str
    what: str
    shown_by: tuple[Event, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join([f"{self.invariant}: {self.what}", *map(str, self.shown_by)])


def check(history: Sequence[Event], terms: Terms) -> list[Violation]:
    """Return all violations in the order of the invariants; those of `client` are clients that failed or hung."""
    ordered = sorted(history, key=lambda event: event.t)
    done = list(operations(ordered))
    return [
        *_records(done),
        *_never_back(done),
        *_payloads(done, ordered),
        *_invalidations(done),
        *_holders(done, ordered, terms),
        *_learned(done, ordered, terms),
        *_tokens(done),
        *_waiters(done, ordered, terms),
        *_left(ordered),
        *(Violation("client", "a client failed", (event,)) for event in ordered if event.op in ("crash", "hung")),
    ]


# -- the store --------------------------------------------------------------------------------------------------------


def _records(done: list[Operation]) -> Iterator[Violation]:
    """Check I1, I3 and I4."""
    shown: dict[tuple[str, int], Event] = {}
    digests: dict[tuple[str, int], Event] = {}
    won: list[Event] = []
    for op in done:
        answer, end = op.answer, op.end
        if not op.ok or end is None or answer.get("attempt") is None:
            continue
        place = (end.key, int(answer["generation"]))
        if end.op == "publish" and answer["won"]:
            won.append(end)
        else:
            first = shown.setdefault(place, end)
            if first.about["attempt"] != answer["attempt"]:
                yield Violation("I1", f"two records in generation {place[1]} of {end.key}", (first, end))
        first = digests.setdefault(place, end)
        if first.about["digest"] != answer["digest"]:
            yield Violation("I4", f"two values of generation {place[1]} of {end.key}", (first, end))
    winners: dict[tuple[str, int], Event] = {}
    for end in won:
        place = (end.key, int(end.about["generation"]))
        for other in (shown.get(place), winners.setdefault(place, end)):
            if other is not None and other.about["attempt"] != end.about["attempt"]:
                yield Violation("I3", f"success was told, and the slot of {end.key} is another's", (other, end))


def _never_back(done: list[Operation]) -> Iterator[Violation]:
    """Check I1: the position of a key (generation, and whether there is a record) never goes back for later readers."""
    for key, asked in _by_key(done, "read", "publish").items():
        for op, before in _with_what_ended_before(asked, _position):
            if before is not None and before.end and op.end and (-1, False) < _position(op) < _position(before):
                yield Violation("I1", f"a slot of {key} went back", (before.end, op.end))


def _position(op: Operation) -> tuple[int, bool]:
    # A refused writer reports only its own slot.
    if not op.ok or "generation" not in op.answer or "restart" in op.answer:
        return (-1, False)
    return (int(op.answer["generation"]), op.answer.get("attempt") is not None)


def _payloads(done: list[Operation], history: list[Event]) -> Iterator[Violation]:
    """Check I2."""
    for op in done:
        if op.end is None or op.end.op != "read":
            continue
        if op.end.type == "fail" and op.answer.get("damaged"):
            yield Violation("I2", f"a record of {op.end.key} led to bytes that are gone or others", (op.end,))
        if op.ok and op.answer.get("attempt") and op.answer["digest"] != op.answer["recorded"]:
            yield Violation("I2", f"a value of {op.end.key} is not the one of its record", (op.end,))
    for event in history:
        if event.op == "left" and event.about["problems"]:
            yield Violation("I2", f"the store is damaged: {event.about['problems']}", (event,))


def _invalidations(done: list[Operation]) -> Iterator[Violation]:
    """Check I5. An invalidation closes at least what anybody had seen before it started."""
    for key, asked in _by_key(done, "read", "publish", "invalidate").items():
        closed = [
            (op.ended, _seen_generation(before), op)
            for op, before in _with_what_ended_before(asked, _seen_generation)
            if op.invoke.op == "invalidate" and op.ok and before is not None
        ]
        closed.sort(key=lambda entry: entry[0])
        index, floor, closing = 0, -1, None
        for op in asked:
            while index < len(closed) and closed[index][0] < op.invoke.t:
                if closed[index][1] > floor:
                    _, floor, closing = closed[index]
                index += 1
            if op.invoke.op != "invalidate" and 0 <= _seen_generation(op) <= floor:
                shown = (closing.end if closing else None, op.invoke, op.end)
                yield Violation("I5", f"a result of {key} came after it was invalidated", tuple(e for e in shown if e))


def _seen_generation(op: Operation) -> int:
    """Return the generation of the record that existed when the operation ended; -1 if none did."""
    return int(op.answer["generation"]) if op.ok and op.answer.get("attempt") is not None else -1


# -- the locks --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Hold:
    """A lock, from the moment it was certainly held to the last moment at which its holder was not lost."""

    key: str
    session: str
    taken: Operation
    until: float
    released: float = math.inf

    @property
    def since(self) -> float:
        return self.taken.ended

    @property
    def fence(self) -> int:
        return int(self.taken.answer["fence"])


def _holds(done: list[Operation], history: list[Event]) -> list[_Hold]:
    """Return every lock that was acquired, in the order in which that was known."""
    holds: dict[tuple[str, str, int], _Hold] = {}
    for op in done:
        if op.invoke.op == "acquire" and op.ok and "fence" in op.answer:
            name = (op.invoke.key, op.answer["session"], op.answer["fence"])
            holds.setdefault(name, _Hold(op.invoke.key, op.answer["session"], op, op.ended))
    for event in history:
        hold = holds.get((event.key, event.about.get("session", ""), event.about.get("fence", 0)))
        if hold is None:
            continue
        if event.op == "release" and event.type == "invoke":
            hold.released = min(hold.released, event.t)
        elif event.op == "holds" and event.t < hold.released:
            hold.until = max(hold.until, event.t)
    return sorted(holds.values(), key=lambda hold: hold.since)


def _holders(done: list[Operation], history: list[Event], terms: Terms) -> Iterator[Violation]:
    """Check I6: no two holders at once, except for one lease after a server came back empty."""
    emptied = [(op.invoke.t, op.ended) for op in done if op.invoke.op == "outage" and op.invoke.about.get("empty")]
    last: dict[str, _Hold] = {}
    for hold in _holds(done, history):
        before = last.get(hold.key)
        if before is None or before.until <= hold.until:
            last[hold.key] = hold
        if before is None or before.session == hold.session or before.until <= hold.since:
            continue
        forgotten = [gone for gone, back in emptied if gone <= hold.since and back >= before.taken.invoke.t]
        both_until = min(before.until, hold.until)
        if not forgotten or both_until > max(forgotten) + LOST_AFTER * terms.lease:
            assert before.taken.end is not None
            assert hold.taken.end is not None
            what = f"{hold.key} is held by two for {both_until - hold.since:.4f} s"
            yield Violation("I6", what, (before.taken.end, hold.taken.end))


def _learned(done: list[Operation], history: list[Event], terms: Terms) -> Iterator[Violation]:
    """Check I6: a session whose lock went to another before its release was informed, if it ended in order.

    Sessions that ended before their next heartbeat, which would have informed them, are exempt.
    """
    told = {event.about["session"] for event in history if event.op == "lost"}
    ended = {event.process: event.t for event in history if event.op == "bye"}
    in_time = LOST_AFTER * terms.lease + terms.margin
    holder: dict[str, _Hold] = {}
    for hold in sorted(_holds(done, history), key=lambda hold: hold.fence):
        before = holder.get(hold.key)
        holder[hold.key] = hold
        if before is None or before.session == hold.session or before.session in told:
            continue
        lived_until = ended.get(before.taken.invoke.process, 0.0)
        if hold.since < before.released and hold.since + in_time < lived_until:
            assert before.taken.end is not None
            assert hold.taken.end is not None
            yield Violation("I6", f"who lost {hold.key} was never told", (before.taken.end, hold.taken.end))


def _tokens(done: list[Operation]) -> Iterator[Violation]:
    """Check I7."""
    taken = [op for op in done if op.invoke.op == "acquire" and op.ok and "fence" in op.answer]
    for key, asked in _by_key(taken, "acquire").items():
        owners: dict[int, Operation] = {}
        for op, before in _with_what_ended_before(asked, lambda op: int(op.answer["fence"])):
            owner = owners.setdefault(op.answer["fence"], op)
            same = before is not None and before.answer["session"] == op.answer["session"]
            shown = tuple(each.end for each in (before, op) if each is not None and each.end is not None)
            if before is not None and op.answer["fence"] < before.answer["fence"] + (not same):
                yield Violation("I7", f"a token of {key} did not grow", shown)
            elif owner.answer["session"] != op.answer["session"]:
                yield Violation("I7", f"two holders of {key} have one token", shown)


def _waiters(done: list[Operation], history: list[Event], terms: Terms) -> Iterator[Violation]:
    """Check I9. An outage extends a wait by its length and the time of one call.

    Others may take the lock again and again. But an undisturbed waiter has heard of a release if it had already waited
    for the time of one call by then.
    """
    concerned = _what_may_have_changed(history)
    freed: dict[str, list[float]] = defaultdict(list)
    for event in history:
        if event.op == "release" and event.type == "ok" and event.about.get("freed", True):
            freed[event.key].append(event.t)
    disturbed = [event.t for event in history if event.op in ("cut", "outage")]
    away = [op for op in done if op.invoke.op == "outage"]
    begins, ends = [op.invoke.t for op in away], [op.ended for op in away]
    lasted = [0.0, *itertools.accumulate(op.ended - op.invoke.t + terms.call for op in away)]
    killed = {event.about["target"] for event in history if event.op == "kill"}
    end_of_all = max((event.t for event in history), default=0.0)
    for wait in (op for op in done if op.invoke.op == "wait"):
        if wait.end is None and wait.invoke.process in killed:
            continue
        ended = min(wait.ended, end_of_all)
        moments = [_last_before(concerned[of], ended) for of in (wait.invoke.key, f"process {wait.invoke.process}")]
        since = max(wait.invoke.t, *moments)
        # Outages follow each other, so those during this wait are neighbours.
        outages = lasted[bisect_right(begins, ended)] - lasted[bisect_right(ends, since)]
        patience = terms.lease + terms.poll + terms.margin
        late = ended - since - outages - patience
        first = _first_after(freed[wait.invoke.key], wait.invoke.t + terms.call)
        if first + patience < ended:
            at_work = (disturbed, concerned[f"process {wait.invoke.process}"])
            if all(_first_after(moments, wait.invoke.t) > first + patience for moments in at_work):
                late = max(late, ended - first - patience)
        if late > 0:
            how = "never ended" if wait.end is None else f"ended {late:.2f} s late"
            yield Violation("I9", f"a wait for {wait.invoke.key} {how}", tuple(e for e in (wait.invoke, wait.end) if e))


def _what_may_have_changed(history: list[Event]) -> dict[str, list[float]]:
    """Return, by key and by waiting process, the moments that restart a waiter's count."""
    moments: dict[str, list[float]] = defaultdict(list)
    at_work: dict[str, str] = {}
    """The lock that each process holds, or may hold because its request has no answer yet."""
    refused = {(e.process, e.n) for e in history if e.op == "acquire" and e.type == "ok" and "fence" not in e.about}
    for event in history:
        if event.op in ("acquire", "holds", "release"):
            if (event.process, event.n) in refused:
                continue
            moments[event.key].append(event.t)
            if event.op == "release" and event.type == "ok":
                at_work.pop(event.process, None)
            else:
                at_work[event.process] = event.key
        elif event.op in ("stop", "continue", "kill"):
            target = event.about["target"]
            moments[f"process {target}"].append(event.t)
            if target in at_work:
                moments[at_work[target]].append(event.t)
    return moments


def _first_after(moments: list[float], t: float) -> float:
    index = bisect_right(moments, t)
    return moments[index] if index < len(moments) else math.inf


def _last_before(moments: list[float], t: float) -> float:
    index = bisect_right(moments, t)
    return moments[index - 1] if index else -math.inf


# -- the end ----------------------------------------------------------------------------------------------------------


def _left(history: list[Event]) -> Iterator[Violation]:
    """Check I10."""
    for event in history:
        if event.op == "bye" and any("heartbeat" in name for name in event.about["threads"]):
            yield Violation("I10", "a heartbeat runs on", (event,))
        if event.op != "left":
            continue
        about = event.about
        if about["locks"]:
            yield Violation("I10", f"locks are left: {about['locks']}", (event,))
        if about["leftovers"]:
            yield Violation("I10", f"the lock manager kept {about['leftovers']}", (event,))
        if set(about["payloads"]) != set(about["referenced"]):
            odd = sorted(set(about["payloads"]) ^ set(about["referenced"]))
            yield Violation("I10", f"the store holds other payloads than its records name: {odd}", (event,))


# -- order ------------------------------------------------------------------------------------------------------------


def _by_key(done: list[Operation], *names: str) -> dict[str, list[Operation]]:
    """Return these operations by key, in the order in which they started."""
    found: dict[str, list[Operation]] = defaultdict(list)
    for op in done:
        if op.invoke.op in names:
            found[op.invoke.key].append(op)
    return found


def _with_what_ended_before(
    asked: list[Operation], rank: Callable[[Operation], tuple[int, bool] | int]
) -> Iterator[tuple[Operation, Operation | None]]:
    """Yield each operation and, of those that had ended when it started, the one of the highest rank."""
    ending = sorted((op for op in asked if op.ok), key=lambda op: op.ended)
    highest: Operation | None = None
    index = 0
    for op in asked:
        while index < len(ending) and ending[index].ended < op.invoke.t:
            if highest is None or rank(ending[index]) > rank(highest):  # type: ignore[operator]
                highest = ending[index]
            index += 1
        yield op, highest
