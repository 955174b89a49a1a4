"""Assembly: creates the driver of a run from its parts."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from penstock import events as log
from penstock.clocks import Clock
from penstock.digests.names import main_module_name
from penstock.driver.admission import Admission
from penstock.driver.completion import Completion
from penstock.driver.core import Core
from penstock.driver.dispatching.dispatch import Dispatch
from penstock.driver.dispatching.fusion import Fusion
from penstock.driver.effects.leases import LOOK_AGAIN_SECONDS, Leases
from penstock.driver.effects.lookups import Lookups, OpenResults
from penstock.driver.effects.performing import Performer
from penstock.driver.effects.starts import Starts
from penstock.driver.inbox import Inbox
from penstock.driver.instructions import Out
from penstock.driver.limits import Limits
from penstock.driver.locking import Locking
from penstock.driver.loop import Driver
from penstock.driver.planning import Planning
from penstock.driver.rates import Rates
from penstock.driver.state.run_state import RunState
from penstock.graph.graphs import Entry, Node
from penstock.limits.rates import RateTable
from penstock.limits.tables import LimitTable
from penstock.locks.base import LockManager
from penstock.locks.single_flight import EVERYONE, Flight, FlightOf
from penstock.runners.base import Engine
from penstock.settings import Settings
from penstock.worker.messages import Report
from penstock.worker.nesting import Nesting


def make_driver(
    run: RunState,
    *,
    settings: Settings,
    clock: Clock,
    info: Mapping[str, str],
    open_results: OpenResults,
    flight_of: FlightOf,
    permits: Callable[[], LockManager],
    open_engine: Callable[[Report], Engine],
    emit: log.Emit,
    on_task: Callable[[Entry], None],
    around: Nesting | None,
) -> Driver:
    """Create the driver of a run.

    `open_results` opens stores, `permits()` returns the lock manager for limits, `info` describes the run to lock
    managers, and `around` are the calls around a nested run.
    """
    inbox = Inbox()
    leases = Leases(
        info=info,
        on_wake=inbox.wake,
        on_lost=inbox.locks_lost,
        on_down=inbox.locks_down,
        run_unlocked=settings.on_locks_down == "run_unlocked",
        patience=settings.lease_seconds,
        lease_seconds=settings.lease_seconds,
        look_again=min(LOOK_AGAIN_SECONDS, settings.lock_wait_seconds or LOOK_AGAIN_SECONDS),
        clock=clock,
    )
    store = open_results(None).store
    performer = Performer(
        lookups=Lookups(run.graph, open_results, clock),
        leases=leases,
        limits=LimitTable(store, clock),
        starts=Starts(RateTable(store, clock)),
        permits=permits,
        open_engine=lambda: open_engine(inbox.put),
        emit=emit,
        on_task=on_task,
    )
    core = make_core(run, settings=settings, flight_of=flight_of, around=around)
    return Driver(core, performer, inbox, clock=clock)


def make_core(
    run: RunState,
    *,
    settings: Settings,
    flight_of: FlightOf,
    around: Nesting | None = None,
    rng: random.Random | None = None,
) -> Core:
    """Create the core of a run, which needs no thread, clock, engine or store."""
    out: Out = []
    rng = rng or random.Random()

    def flight_now(node: Node) -> Flight:
        """Return the flight of a node at present: expensive locks are only used for calls known to take long."""
        flight = flight_of(node)
        cheap = flight.after_seconds and run.durations.usual(node.id) < flight.after_seconds
        return EVERYONE if cheap else flight

    fusion = Fusion(run, flight_of=flight_now)
    admission = Admission(
        run,
        out,
        fusion=fusion,
        locking=Locking(run, out, flight_of=flight_now, lock_wait_seconds=settings.lock_wait_seconds, around=around),
        limits=Limits(run, out, rng=rng, around=around),
        rates=Rates(run, out, rng=rng),
    )
    completion = Completion(run, out, admission=admission, rng=rng)
    return Core(
        run,
        out,
        admission=admission,
        dispatch=Dispatch(
            run,
            out,
            fusion=fusion,
            flight_of=flight_now,
            bundle_seconds=settings.bundle_seconds,
            bundle_nodes=settings.bundle_nodes,
            # Determined here, because the driver's thread does not have a worker's context.
            main=main_module_name(),
        ),
        completion=completion,
        planning=Planning(
            run,
            out,
            admission=admission,
            completion=completion,
            recompute_unknown=settings.on_unknown == "recompute",
        ),
    )
