"""Dispatch: admitted nodes become calls, calls travel in bundles, as many as the engine has room for."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping

from penstock import events
from penstock.driver.bundling import Bundler
from penstock.driver.fusion import Owners
from penstock.driver.leases import Claims
from penstock.driver.pipelining import Ahead
from penstock.driver.ready_queue import Waiting
from penstock.driver.run_state import Board, Progress
from penstock.errors import DigestError, RunnerError
from penstock.graph.graphs import Entry, Node
from penstock.graph.hashing import digest_bytes
from penstock.graph.names import main_module_name
from penstock.runners.base import Bundle, Call, Engine, Failure, Finished, Payload, Started, Waits
from penstock.runners.failures import describe
from penstock.runners.flights import FlightOf
from penstock.runners.resources import missing, required


class Dispatch:
    """What is waiting for room and what is under way."""

    def __init__(
        self,
        board: Board,
        *,
        claims: Claims,
        owners: Owners,
        flight_of: FlightOf,
        open_engine: Callable[[], Engine],
        bundle_seconds: float,
        bundle_nodes: int,
        on_task: Callable[[Entry], None],
    ) -> None:
        """The engine is opened with the first call: a run in which everything is a hit needs none. `on_task` is called
        once for each task that is handed over."""
        self._board = board
        self._claims = claims
        self._flight_of = flight_of
        self._open_engine = open_engine
        self._on_task = on_task
        self._engine: Engine | None = None
        self._waiting = Waiting()
        self._bundles: dict[int, Bundle] = {}
        self._number = 0
        self._in_use: dict[str, float] = {}
        self._payloads: dict[int, Payload] = {}
        self._owners = owners
        self.bundler = Bundler(board, owners=owners, seconds=bundle_seconds, most=bundle_nodes)
        self._bundle_seconds = bundle_seconds
        self._ahead = Ahead(board, self.bundler)
        self._main = main_module_name()  # asked where the run begins: the driver's thread has no context of a worker

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = self._open_engine()
            self._ahead.use(self._engine)
        return self._engine

    def push(self, id: int) -> None:
        """The node may be handed over as soon as there is room; lower numbers go first."""
        self._waiting.push(id)

    def hand_over(self) -> tuple[list[tuple[int, Failure]], list[int]]:
        """Submit what there is room for.

        Returns the nodes that can never be submitted, with the reason, and those that have to be decided again because
        an input was lost, or made again, while they waited here.
        """
        refused: list[tuple[int, Failure]] = []
        again: list[int] = []
        # Who waits is asked first: a look at the room opens the engine.
        while self._waiting and self._room("slots", 1.0) and (id := self._waiting.pop(self._fits)) is not None:
            if self._board.remade and (self._board.outdated(id) or self._board.absent(id)):
                again.append(id)
                continue
            try:
                needs = self._needs(id)
                if not self._fits(needs):
                    self._waiting.set_aside(id, needs)
                    continue
                capacity = self.engine.capacity
                chosen = self.bundler.choose(id, self._waiting.ready, capacity.get("workers", capacity["slots"]))
                refused.extend(self._submit(chosen, needs))
            except BaseException as error:  # noqa: BLE001 (resources= and pickling are users' code; the failure is the node's)
                refused.append((id, describe(error)))
        for id in self._ahead.followers(self._room_behind):
            refused.extend(self._submit([id], {}))
        return refused, again

    @property
    def idle(self) -> bool:
        """Nothing is under way."""
        return not self._bundles

    def under_way(self, report: Started | Waits | Finished) -> Bundle | None:
        """The bundle a report is about; None if it was cancelled or timed out meanwhile."""
        return self._bundles.get(report.bundle)

    def end(self, bundle: Bundle) -> bool:
        """The bundle is over and its room is free; False if it was over before."""
        if self._bundles.pop(bundle.number, None) is None:
            return False
        for name, amount in bundle.resources.items():
            self._in_use[name] -= amount
        self._ahead.ended(bundle)
        for id in self._owners.ended(bundle):
            self._board.scheduler.resume(id)
        return True

    def cancel_all(self) -> None:
        """Stop everything under way."""
        self._waiting.clear()
        for bundle in list(self._bundles.values()):
            self.end(bundle)
            self.engine.cancel(bundle.number)

    def release(self, handles: list[object]) -> None:
        """Values in the engine that nobody will ask for again."""
        if handles and self._engine is not None:
            self._engine.release(handles)

    def close(self) -> None:
        """Stop the workers."""
        if self._engine is not None:
            self._engine.close()

    def _fits(self, needs: Mapping[str, float]) -> bool:
        """Whether there is room; also where there never can be, so that `_needs` tells it when it is its turn."""
        never = bool(missing(needs, self.engine.capacity))
        return never or all(self._room(name, amount) for name, amount in needs.items())

    def _room(self, name: str, amount: float) -> bool:
        return self._in_use.get(name, 0.0) + amount <= self.engine.capacity[name]

    def _room_behind(self) -> bool:
        """Whether the engine takes calls that cannot run yet."""
        return len(self._bundles) < self._in_use.get("slots", 0.0) + self._ahead.held_back

    def _needs(self, id: int) -> Mapping[str, float]:
        task = self._board.graph[id].entry.task
        needs = {"slots": 1.0, **required(task.options.resources, self._board.progress[id].attempt)}
        lacking = missing(needs, self.engine.capacity)
        if lacking:
            raise RunnerError(
                f"no worker can ever run {task.name}",
                because=f"it asks for {lacking}",
                hint="ask for less, or use a runner that has it",
            )
        return needs

    def _submit(self, ids: list[int], needs: Mapping[str, float]) -> list[tuple[int, Failure]]:
        """Submit a bundle; if it cannot be shipped, each of its nodes by itself, to tell which one is to blame."""
        self._number += 1
        try:
            bundle = Bundle(self._number, self._calls(ids), needs, 2 * self._bundle_seconds if len(ids) > 1 else None)
            self.engine.submit(bundle)
        except BaseException as error:  # noqa: BLE001 (pickling is users' code; the failure is the node's)
            return [(ids[0], describe(error))] if len(ids) == 1 else self._submit_each(ids, needs)
        self._bundles[bundle.number] = bundle
        self.bundler.weigh(bundle)
        self._ahead.began(bundle)
        self._owners.began(bundle)
        for name, amount in needs.items():
            self._in_use[name] = self._in_use.get(name, 0.0) + amount
        if len(ids) > 1:
            self._board.emit(events.BundleSubmitted(at=self._board.clock.now(), bundle=bundle.number, nodes=len(ids)))
        return []

    def _submit_each(self, ids: list[int], needs: Mapping[str, float]) -> list[tuple[int, Failure]]:
        refused: list[tuple[int, Failure]] = []
        for id in ids:
            self._board.progress[id].alone = True
            if any(not self._board.there(d) for d in self._board.graph[id].deps):
                self._board.scheduler.wait_again(id, self._board.needs_of(id))  # its inputs were to be made on the way
            elif self._room("slots", 1.0):
                refused.extend(self._submit([id], needs))
            else:
                self.push(id)
        return refused

    def _payload(self, node: Node) -> Payload:
        payload = self._payloads.get(id(node.entry))
        if payload is None:
            payload = Payload(
                number=len(self._payloads),
                task=node.entry.task.for_workers(),
                template=node.entry.template,
                flow=node.entry.flow,
                log_prints=node.entry.log_prints,
                main=self._main,
                serializable=self._flight_of(node).required,
                store=node.entry.task.options.result_storage,
            )
            self.engine.register(payload)
            self._payloads[id(node.entry)] = payload
            self._on_task(node.entry)
        return payload

    def _calls(self, ids: list[int]) -> list[Call]:
        inside = set(ids) if len(ids) > 1 else set()
        calls = [self._call(id, inside) for id in ids]
        calls[0].promised = len(ids) == 1 and self._ahead.promises(ids[0])
        inner_uses = Counter(d for call in calls for d in call.inner)
        for call in calls:
            if uses := inner_uses[call.node]:
                call.passes_on = True
                call.keep = self._board.wanted_beyond(call.node, uses)
        return calls

    def _call(self, id: int, inside: set[int]) -> Call:
        board = self._board
        node, progress = board.graph.nodes[id], board.progress[id]
        call = Call(
            node=id,
            attempt=progress.attempt,
            payload=self._payload(node).number,
            arguments=node.arguments,
            inputs={},
            attempt_id=board.attempt_id(),
            keep=True,
            style=node.style,
            context=node.context,
        )
        if node.deps:
            self._fill_in_inputs(call, node, progress, inside)
        if node.order and inside:
            call.after = tuple(n for n in node.order if n in inside)
        if board.graph.large:
            call.large = board.graph.large.get(id, ())
        if node.entry.template is not None:
            self._fill_in_keys(call, node, progress)
        if not node.cached and (dependents := board.scheduler.dependents(id)):
            call.digest = any(board.graph.nodes[d].cached for d in dependents)
        return call

    def _fill_in_inputs(self, call: Call, node: Node, progress: Progress, inside: set[int]) -> None:
        board, ahead, deps = self._board, self._ahead, node.deps
        progress.key_age = board.age(node.id)  # of the key, whether it is known now or computed on the worker
        progress.inputs_age = board.inputs_age(node.id)
        call.inputs = {d: ahead.input(d, node.id) for d in deps}
        if inside:
            call.inner = tuple(d for d in deps if d in inside)
        expiries = [e for d in deps if d not in inside and (e := ahead.expires(d)) is not None]
        if expiries:
            call.upstream_expires = min(expiries)

    def _fill_in_keys(self, call: Call, node: Node, progress: Progress) -> None:
        for each in call.large if node.cached else ():
            with contextlib.suppress(DigestError):  # then the worker says so, if it is asked for
                each.digest(digest_bytes)  # once here, not with each call on a worker
        lease = self._claims.lease(node.id)
        if lease is not None:
            call.session_id, call.fencing_token = lease.session_id, lease.fencing_token
        call.cache_key, call.seen = progress.key, progress.seen
        call.claims = bool(call.inner) and progress.key is None
        call.recipe_key = node.recipe_key if node.deps else None
        call.keep = not node.cached or self._board.wanted(node.id)
