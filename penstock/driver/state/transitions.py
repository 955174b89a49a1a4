"""The states of a node that runs, and everything that can happen to it, as one table.

Hits and what is pruned have no state: they never run. Every change of a state is one of these moves; any other is a
mistake of the driver, and refused. Why the table is as it is: docs/design/0019-a-driver-without-threads.md.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a node is."""

    WAITING = "waiting"
    """Something that it needs is not over."""
    READY = "ready"
    """The next turn decides about it."""
    ADMITTING = "admitting"
    """It is being decided: look-up, lock, permits, starts."""
    PARKED = "parked"
    """Somebody else has to go on first: another node, another run, whoever holds a permit, a period of a rate."""
    QUEUED = "queued"
    """It may run as soon as there is room."""
    RUNNING = "running"
    """The engine has it."""
    RESTING = "resting"
    """It failed, and a delay has to pass before the next attempt."""
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Something that it needs has failed: it never runs."""


OVER = (State.DONE, State.FAILED, State.SKIPPED)
UNFINISHED = tuple(state for state in State if state not in OVER)


class Move(Enum):
    """What can happen to a node: in words, from which states, to which one."""

    INPUTS_THERE = "everything it needs is over", (State.WAITING,), State.READY
    TAKEN = "a turn decides about it", (State.READY,), State.ADMITTING
    PARKED = "somebody else has to go on first", (State.ADMITTING,), State.PARKED
    WOKEN = "whoever it waited for is done, or may be", (State.PARKED,), State.READY
    ADMITTED = "nothing is in its way but room", (State.ADMITTING,), State.QUEUED
    SUBMITTED = "the engine has taken it", (State.QUEUED,), State.RUNNING
    JOINED = "it travels with what it waits for, or right behind", (State.WAITING,), State.RUNNING
    FINISHED = "it has a value: found, or computed", (State.ADMITTING, State.RUNNING), State.DONE
    RETRIED = "it is tried again at once", (State.RUNNING,), State.READY
    DELAYED = "it is tried again later", (State.RUNNING,), State.RESTING
    RESTED = "the delay has passed", (State.RESTING,), State.READY
    DECIDED_AGAIN = (
        "an input is missing, or it came back untouched",
        (State.ADMITTING, State.QUEUED, State.RUNNING),
        State.WAITING,
    )
    MADE_AGAIN = "its value was lost, let go, or is outdated", (State.DONE,), State.WAITING
    FAILED = "it will never have a value", (State.ADMITTING, State.QUEUED, State.RUNNING), State.FAILED
    SKIPPED = "something it needs has failed", UNFINISHED, State.SKIPPED
    STOPPED = "the run is cancelled", UNFINISHED, State.FAILED

    def __init__(self, why: str, sources: tuple[State, ...], target: State) -> None:
        self.why = why
        self.sources = sources
        self.target = target
        self.ends = target in OVER
        """The node is over then."""
        self.readies = target is State.READY
        self.reopens = sources == (State.DONE,)
        """The node was over, and is not any more."""

    def refused(self, node: int, state: State) -> IllegalMove:
        """The node is in a state that this cannot happen in."""
        return IllegalMove(f"node {node} is {state.value}, and cannot be {self.name.lower()} ({self.why})")


class IllegalMove(RuntimeError):
    """The driver asked for a move that is not in the table: a mistake in Penstock, never in a flow."""
