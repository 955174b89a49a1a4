"""The states of a node that runs, and the moves between them, as one table.

Hits and pruned nodes never run and have no state. Every change of a state is one of these moves; any other is a bug in
the driver and raises an error. For the reasons, see docs/design/0019-a-driver-without-threads.md.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """The state of a node."""

    WAITING = "waiting"
    """A dependency is not over."""
    READY = "ready"
    """The next turn decides it."""
    ADMITTING = "admitting"
    """It is being decided: lookup, lock, permits, starts."""
    PARKED = "parked"
    """It waits for another node, another run, a permit or the next period of a rate."""
    QUEUED = "queued"
    """It may run as soon as there is room."""
    RUNNING = "running"
    """The engine has it."""
    RESTING = "resting"
    """It failed and waits for the delay before the next attempt."""
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    """A dependency has failed, so it never runs."""


OVER = (State.DONE, State.FAILED, State.SKIPPED)
UNFINISHED = tuple(state for state in State if state not in OVER)


class Move(Enum):
    """A transition of a node: its description, the states before it, and the state after it."""

    INPUTS_THERE = "all its dependencies are done", (State.WAITING,), State.READY
    TAKEN = "it is being decided in this turn", (State.READY,), State.ADMITTING
    PARKED = (
        "another node or run must finish first: its key, lock, permit or start is not available",
        (State.ADMITTING,),
        State.PARKED,
    )
    WOKEN = "what it waited for is done, or may be", (State.PARKED,), State.READY
    ADMITTED = "it only needs a free worker", (State.ADMITTING,), State.QUEUED
    SUBMITTED = "the engine accepted it", (State.QUEUED,), State.RUNNING
    JOINED = "it travels with its dependencies, or directly behind them", (State.WAITING,), State.RUNNING
    FINISHED = "it has a value: found, or computed", (State.ADMITTING, State.RUNNING), State.DONE
    RETRIED = "it is retried immediately", (State.RUNNING,), State.READY
    DELAYED = "it is retried later", (State.RUNNING,), State.RESTING
    RESTED = "the delay has passed", (State.RESTING,), State.READY
    DECIDED_AGAIN = (
        "an input is missing, or it was handed back untouched",
        (State.ADMITTING, State.QUEUED, State.RUNNING),
        State.WAITING,
    )
    MADE_AGAIN = "its value was lost, released, or is outdated", (State.DONE,), State.WAITING
    FAILED = "it will never have a value", (State.ADMITTING, State.QUEUED, State.RUNNING), State.FAILED
    SKIPPED = "a dependency failed", UNFINISHED, State.SKIPPED
    STOPPED = "the run is cancelled", UNFINISHED, State.FAILED

    def __init__(self, why: str, sources: tuple[State, ...], target: State) -> None:
        self.why = why
        self.sources = sources
        self.target = target
        self.ends = target in OVER
        """Whether the node is over afterwards."""
        self.readies = target is State.READY
        self.reopens = sources == (State.DONE,)
        """Whether the node was over and no longer is."""

    def refused(self, node: int, state: State) -> IllegalMove:
        """Return the error for a node in a state without this move."""
        return IllegalMove(f"node {node} is {state.value}, and cannot be {self.name.lower()} ({self.why})")


class IllegalMove(RuntimeError):
    """The driver attempted a move that is not in the table: a bug in Penstock, never in a flow."""
