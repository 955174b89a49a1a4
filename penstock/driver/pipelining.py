"""Sending ahead: calls whose inputs are still being made go to engines that hold them back until these are there.

A call that waits in the engine begins as soon as its inputs are made, without a word with the driver in between. What
travels in bundles need not: it is fused with what it waits for. If an input does not come (its call failed, was handed
back, lost its worker), the call that waited for it comes back untouched, and is decided again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from penstock.driver.bundling import Bundler
from penstock.driver.run_state import Board
from penstock.driver.scheduler import State
from penstock.runners.base import Bundle, Engine, HoldsBack, Input

MAX_INPUTS = 32
"""A call with more inputs is not sent ahead: the driver would look at all of them with each that sets out."""


@dataclass(frozen=True, slots=True)
class _Promise:
    """A value that is being made."""

    handle: Any
    expires: float | None
    """The earliest expiry of what it is made from."""


class Ahead:
    """Which nodes may follow those that are under way, and where they will find their inputs."""

    def __init__(self, board: Board, bundler: Bundler) -> None:
        self._board = board
        self._bundler = bundler
        self._engine: HoldsBack | None = None
        self._promises: dict[int, _Promise] = {}
        self._parents: deque[int] = deque()

    @property
    def held_back(self) -> int:
        """So many bundles the engine takes besides those that could run."""
        return 0 if self._engine is None else self._engine.held_back

    def use(self, engine: Engine) -> None:
        """The engine is open."""
        self._engine = engine if isinstance(engine, HoldsBack) else None  # a look at a protocol takes long: once

    def promises(self, id: int) -> bool:
        """Whether others may be sent after the node, which travels by itself."""
        board, node = self._board, self._board.graph[id]
        options = node.entry.task.options
        # A call with a time-out may be cancelled: what waits for it in the engine would keep it going.
        stays = not node.cached and options.timeout_seconds is None and options.resources is None
        return stays and self._engine is not None and bool(board.scheduler.dependents(id))

    def began(self, bundle: Bundle) -> None:
        """The bundle was submitted."""
        call = bundle.calls[0]
        if call.promised and self._engine is not None:
            handle = self._engine.promise(bundle.number, call.node)
            self._promises[call.node] = _Promise(handle, call.upstream_expires)
            self._parents.append(call.node)

    def ended(self, bundle: Bundle) -> None:
        """The bundle is over, whatever came of it."""
        if bundle.calls[0].promised:
            self._promises.pop(bundle.calls[0].node, None)

    def followers(self, room: Callable[[], bool]) -> Iterator[int]:
        """Nodes to be submitted now, as long as there is room; each is taken for running from here on."""
        scheduler = self._board.scheduler
        while self._parents and room():
            parent = self._parents.popleft()
            if parent not in self._promises or self._board.remade:
                continue
            for id in dict.fromkeys(scheduler.dependents(parent)):
                if scheduler.state(id) is State.WAITING and self._may_follow(id):
                    scheduler.begin(id)
                    yield id

    def input(self, id: int, consumer: int) -> Input:
        """Where a consumer finds the value of a node that is done or under way."""
        promise = self._promises.get(id)
        return self._board.input(id, consumer) if promise is None else Input(handle=promise.handle)

    def expires(self, id: int) -> float | None:
        """The earliest expiry of the value of a node that is done or under way."""
        promise = self._promises.get(id)
        return self._board.results[id].expires if promise is None else promise.expires

    def _may_follow(self, id: int) -> bool:
        board, node = self._board, self._board.graph[id]
        if node.cached or len(node.deps) > MAX_INPUTS or not self._bundler.alone(id):
            return False
        if node.entry.task.options.resources is not None or board.progress[id].limited:
            return False  # it would hold them, or the slot of a limit, while it waits
        here = all(d in self._promises or board.there(d) for d in node.deps)
        return here and all(board.scheduler.over(n) for n in node.order)
