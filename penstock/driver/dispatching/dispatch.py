"""Dispatch: admitted nodes become calls, calls travel in bundles, as many as the engine has room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock import events as log
from penstock.driver.dispatching.bundling import Bundler
from penstock.driver.dispatching.fusion import Fusion
from penstock.driver.dispatching.parcels import Parcels
from penstock.driver.dispatching.pipelining import Pipelining
from penstock.driver.dispatching.ready_queue import ReadyQueue
from penstock.driver.instructions import NoteTask, OpenEngine, Out, Steps, StopBundle, Submit, Tell
from penstock.driver.state.run_state import RunState
from penstock.driver.state.transitions import State
from penstock.errors import RunnerError
from penstock.locks.single_flight import FlightOf
from penstock.runners.resources import did_you_mean_resource, missing, required
from penstock.worker.failures import describe
from penstock.worker.messages import Bundle, Failure

Refusals = list[tuple[int, Failure]]
"""Nodes that can never be submitted, with the reason."""


class Dispatch:
    """The nodes that wait for room, and the bundles that are running."""

    def __init__(
        self,
        run: RunState,
        out: Out,
        *,
        fusion: Fusion,
        flight_of: FlightOf,
        bundle_seconds: float,
        bundle_nodes: int,
        main: str,
    ) -> None:
        """Bundles aim at `bundle_seconds` and have at most `bundle_nodes` nodes; for `main`, see `Parcels`."""
        self._run = run
        self._out = out
        self._fusion = fusion
        self._bundle_seconds = bundle_seconds
        self._capacity: Mapping[str, float] | None = None
        self._waiting = ReadyQueue()
        self._bundles: dict[int, Bundle] = {}
        self._number = 0
        self._in_use: dict[str, float] = {}
        self.bundler = Bundler(run, fusion=fusion, seconds=bundle_seconds, most=bundle_nodes)
        self._pipelining = Pipelining(run, self.bundler)
        self._parcels = Parcels(run, pipelining=self._pipelining, flight_of=flight_of, main=main)

    def push(self, id: int) -> None:
        """Queue a node for submission. Lower numbers go first."""
        self._waiting.push(id)

    def hand_over(self, capacity: Mapping[str, float] | None) -> Steps[tuple[Refusals, list[int]]]:
        """Submit as many nodes as there is room for. Opens the engine with the first call: a run of hits needs none.

        Returns the nodes that can never be submitted, with the reason, and those that must be decided again because an
        input was lost or recomputed while they waited here.
        """
        refused: Refusals = []
        again: list[int] = []
        run = self._run
        if capacity is None and self._waiting:
            opened = yield OpenEngine()
            capacity, self._pipelining.held_back = opened.capacity, opened.held_back
        self._capacity = capacity
        while self._waiting and self._room("slots", 1.0) and (id := self._waiting.pop(self._fits)) is not None:
            if run.scheduler.state(id) is not State.QUEUED:
                continue  # a dependency has failed meanwhile
            if run.ages.unsettled and (run.outdated(id) or run.values.absent(id)):
                again.append(id)
                continue
            try:
                needs = self._needs(id)
                if not self._fits(needs):
                    self._waiting.set_aside(id, needs)
                    continue
                chosen = self.bundler.choose(id, self._waiting.ready, self._workers)
            except BaseException as error:  # noqa: BLE001 (resources= is users' code; the failure is the node's)
                refused.append((id, describe(error)))
            else:
                yield from self._submit(chosen, needs, refused)
        for id in self._pipelining.followers(self._room_behind):
            yield from self._submit([id], {}, refused)
        return refused, again

    @property
    def idle(self) -> bool:
        """Return whether no bundle is running."""
        return not self._bundles

    def under_way(self, number: int) -> Bundle | None:
        """Return the running bundle with this number; None if it is over, was cancelled or timed out."""
        return self._bundles.get(number)

    def end(self, bundle: Bundle) -> None:
        """Free the room of a bundle that is over."""
        del self._bundles[bundle.number]
        for name, amount in bundle.resources.items():
            self._in_use[name] -= amount
        self._pipelining.ended(bundle)
        self._fusion.ended(bundle)

    def stop(self, bundle: Bundle) -> None:
        """Stop a running bundle."""
        self.end(bundle)
        self._out.append(StopBundle(bundle.number))

    def stop_all(self) -> None:
        """Stop all running bundles, and submit nothing more."""
        self._waiting.clear()
        for bundle in list(self._bundles.values()):
            self.stop(bundle)

    @property
    def _there(self) -> Mapping[str, float]:
        assert self._capacity is not None  # the engine is open
        return self._capacity

    @property
    def _workers(self) -> float:
        return self._there.get("workers", self._there["slots"])

    def _fits(self, needs: Mapping[str, float]) -> bool:
        """Return whether there is room. Also true if there never can be, so that `_needs` reports it in turn."""
        never = bool(missing(needs, self._there))
        return never or all(self._room(name, amount) for name, amount in needs.items())

    def _room(self, name: str, amount: float) -> bool:
        return self._in_use.get(name, 0.0) + amount <= self._there[name]

    def _room_behind(self) -> bool:
        """Return whether the engine accepts another call that cannot run yet."""
        return len(self._bundles) < self._in_use.get("slots", 0.0) + self._pipelining.held_back

    def _needs(self, id: int) -> Mapping[str, float]:
        task = self._run.graph.nodes[id].entry.task
        needs = {"slots": 1.0, **required(task.options.resources, self._run.progress[id].attempt)}
        lacking = missing(needs, self._there)
        if lacking:
            raise RunnerError(
                f"no worker can ever run {task.name}",
                because=f"it requests {lacking}",
                hint=did_you_mean_resource(needs, self._there),
            )
        return needs

    def _submit(self, ids: Sequence[int], needs: Mapping[str, float], refused: Refusals) -> Steps[None]:
        """Submit a bundle. If it cannot be shipped, submit each node by itself, to find the one that is the cause."""
        self._number += 1
        try:
            calls = self._parcels.calls(ids)
            shipped_tasks = self._parcels.unknown(calls)
            bundle = Bundle(self._number, calls, needs, 2 * self._bundle_seconds if len(ids) > 1 else None)
            submitted = yield Submit(bundle, shipped_tasks)
        except BaseException as error:
            if isinstance(error, GeneratorExit):
                raise
            self._not_submitted(ids, describe(error), refused)
            return
        self._out.extend(map(NoteTask, self._parcels.known(shipped_tasks)))
        self._bundles[bundle.number] = bundle
        self.bundler.weigh(bundle, submitted.size)
        self._pipelining.began(bundle, submitted.promise)
        self._fusion.began(bundle)
        for id in ids:
            self._run.submitted(id)
        for name, amount in needs.items():
            self._in_use[name] = self._in_use.get(name, 0.0) + amount
        if len(ids) > 1:
            self._out.append(Tell(log.BundleSubmitted(at=self._run.now.at, bundle=bundle.number, nodes=len(ids))))

    def _not_submitted(self, ids: Sequence[int], failure: Failure, refused: Refusals) -> None:
        if len(ids) == 1:
            refused.append((ids[0], failure))
            return
        run = self._run
        for id in ids:
            run.travel_alone(id)
            if run.scheduler.state(id) is State.QUEUED:
                self._waiting.push(id)
            else:
                run.decide_again(id, run.needs_of(id))  # its inputs would have been computed in the bundle
