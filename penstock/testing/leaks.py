"""What a run that is over must not have left in its driver: waiters, parked keys, leases, slots, values, timers."""

from __future__ import annotations

from typing import Any


def left_over(driver: Any) -> dict[str, Any]:
    """What is left in a `Driver` that was closed, by name; nothing if all is well. It looks behind the interfaces."""
    admission, dispatch, claims, board = driver._admission, driver._dispatch, driver._claims, driver.board
    limits, rates, owners, ahead = admission._limits, admission._rates, dispatch._owners, dispatch._ahead
    found = {
        "waiting threads": driver._waiting,
        "timers": driver._timers,
        "nodes that lead their key": admission._leaders,
        "nodes that follow": admission._followers,
        "parked keys": {key: ids for key, ids in admission._parked.items() if any(not board.over(i) for i in ids)},
        "slots of limits": limits._held,
        "nodes parked for slots": {tag: ids for tag, ids in limits._parked.items() if ids},
        "nodes parked for periods": {tag: ids for tag, ids in rates._parked.items() if ids},
        "leases": claims._leases,
        "releases that were not sent": claims._releasing,
        "presences": claims._presences,
        "bundles": dispatch._bundles,
        "resources in use": {name: used for name, used in dispatch._in_use.items() if used > 1e-9},
        "keys owned by bundles": owners._bundles,
        "promises": ahead._promises,
        "values in the engine": {n: r for n, r in board.results.items() if r.handle is not None},
        "uses of values": {n: uses for n, uses in board._uses.items() if uses < 0},
        "large arguments in use": {i for i, large in board.graph.large.items() if any(each.uses < 0 for each in large)},
        "calls that are not over": board.scheduler.unfinished(),
    }
    return {name: what for name, what in found.items() if what}
