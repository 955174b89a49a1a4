"""Detects leftovers in the driver of a finished run: waiters, parked keys, leases, permits, values, timers."""

from __future__ import annotations

from typing import Any


def left_over(driver: Any) -> dict[str, Any]:
    """Return what is left in a closed `Driver`, by name; empty if nothing is. Inspects private attributes."""
    core, leases, run = driver._core, driver._performer.leases, driver.run
    admission, dispatch, values = core._admission, core._dispatch, run.values
    limits, rates, locking = admission._limits, admission._rates, admission._locking
    found = {
        "waiting threads": [*core._waiters._waiting, *core._waiters._last],
        "timers": driver._timers,
        "nodes that lead their key": admission._leaders,
        "nodes that follow": admission._followers,
        "parked keys": {key: ids for key, ids in locking._parked.items() if any(not run.over(i) for i in ids)},
        "permits of limits": limits._held,
        "nodes parked for permits": {tag: ids for tag, ids in limits._parked.items() if ids},
        "nodes parked for periods": {tag: ids for tag, ids in rates._parked.items() if ids},
        "leases": leases._leases,
        "releases that were not sent": leases._releasing,
        "presences": leases._presences._presences,
        "bundles": dispatch._bundles,
        "resources in use": {name: used for name, used in dispatch._in_use.items() if used > 1e-9},
        "keys owned by bundles": dispatch._fusion._bundles,
        "promises": dispatch._pipelining._promises,
        "values in the engine": {n: r for n, r in run.results.items() if r.handle is not None},
        "uses of values": {n: uses for n, uses in values._uses.items() if uses < 0},
        "large arguments in use": {i for i, large in run.graph.large.items() if any(each.uses < 0 for each in large)},
        "calls that are not over": run.scheduler.unfinished(),
    }
    return {name: what for name, what in found.items() if what}
