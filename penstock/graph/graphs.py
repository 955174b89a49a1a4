"""The graph of a run: nodes in the order they were called, what they need, and who needs them."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from penstock.digests.large import Large
from penstock.digests.python import combine, digest
from penstock.digests.refs import Ref
from penstock.errors import CycleError
from penstock.graph.binding import Style
from penstock.graph.keys import KeyTemplate
from penstock.graph.policies import CachePolicy
from penstock.graph.tasks import TaskDefinition


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A task as one flow uses it: the definition with everything about keys that is the same for each of its calls."""

    task: TaskDefinition
    template: KeyTemplate | None
    """None for a plain task: no key, no look-up, no record."""
    flow: str
    """The flow (or subflow) that calls it."""
    policy: CachePolicy | None = None
    """What the template was compiled from."""
    refresh: bool = False
    """Run even if there is a result."""
    log_prints: bool = False
    """What the call prints goes to the log."""


class Node:
    """One call of a task in a graph."""

    __slots__ = ("_values", "cache_key", "context", "deps", "entry", "id", "order", "recipe_key", "style")

    def __init__(
        self,
        id: int,
        entry: Entry,
        arguments: Mapping[str, Any],
        deps: tuple[int, ...],
        order: tuple[int, ...],
        cache_key: str | None,
        recipe_key: str | None,
    ) -> None:
        self.id = id
        self.entry = entry
        # As a dict they would take three times as much, in each of perhaps a million nodes.
        self._values = tuple(arguments.values())
        self.deps = deps
        """Nodes whose results are arguments, each once, in order of first appearance."""
        self.order = order
        """Nodes that must have finished first although their results are not used."""
        self.cache_key = cache_key
        """Known from the start if no argument comes from another node."""
        self.style: Style | None = None
        """How the caller wrote the arguments, where that matters."""
        self.context: Mapping[ContextVar[Any], Any] | None = None
        """The caller's context variables, if there were any."""
        self.recipe_key = recipe_key
        """None if something upstream is never the same twice (a plain task). Equals the cache key where there are no
        deps.
        """

    @property
    def arguments(self) -> dict[str, Any]:
        """By parameter name; a `Ref` stands wherever another node's result goes, a `Large` for a large value."""
        return dict(zip(self.entry.task.signature.parameters, self._values, strict=True))

    @property
    def name(self) -> str:
        return self.entry.task.name

    @property
    def cached(self) -> bool:
        """Whether results of this node are looked up and recorded; a key function may have said no to this call."""
        return self.entry.template is not None and (self.cache_key is not None or bool(self.deps))

    def __repr__(self) -> str:
        return f"Node({self.id}, {self.name})"


class Graph:
    """Nodes by number. A node can name only nodes that are there already, so the numbers are a topological order."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.stopped_at: str | None = None
        """Where tracing ended early, because the flow function needed a value that was not there."""
        self.large: dict[int, tuple[Large, ...]] = {}
        """The large arguments of those nodes that have some."""
        self.witnesses: dict[int, str | None] = {}
        """`KeyTemplate.witness` of those nodes whose arguments hold objects that stay the caller's own."""
        self._consumers = bytearray()  # 1 where some node uses the result, and not just a part that nobody takes
        self._last_use = array("q")  # the last node that uses the result, 0 if none does
        self.ambiguous = False
        """Whether one recipe has several nodes, so that it could have several results in one run."""
        self._parts = False  # whether any node takes a part of a result
        self._by_recipe: dict[str, int] = {}
        self._apart: dict[tuple[str, tuple[int, ...], tuple[int, ...]], int] = {}
        self._refreshed: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        tasks = Counter(node.name for node in self.nodes)
        return f"Graph({len(self.nodes)} nodes: {', '.join(f'{n} {name}' for name, n in tasks.most_common())})"

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, id: int) -> Node:
        return self.nodes[id]

    def add(
        self,
        entry: Entry,
        arguments: Mapping[str, Any],
        *,
        deps: tuple[int, ...] = (),
        order: tuple[int, ...] = (),
        large: tuple[Large, ...] = (),
    ) -> Node:
        """A node for this call; the one that is there already if it has the same key (its work is done once).

        `arguments` are as `Signature.bind` gives them, `large` the large values in them.

        Raises `CycleError` if the node would wait for one that is not there yet, and `DigestError` if an argument
        has no stable digest.
        """
        id = len(self.nodes)
        for needed in deps if not order else (*deps, *order):
            if not 0 <= needed < id:
                raise CycleError(
                    f"{entry.task.name} would wait for node {needed}, which comes after it",
                    because="a node can wait only for calls made before it; anything else could be a cycle",
                    hint="call the task it waits for first",
                )
        cache_key, recipe_key = self._keys(entry, arguments, deps)
        if recipe_key is None:
            pass
        elif recipe_key not in self._by_recipe and not entry.refresh and not self._refreshed:
            self._by_recipe[recipe_key] = id  # by far the most common
        else:
            refreshed = self._refreshed.get(recipe_key, -1)
            if refreshed >= 0 and order and not entry.refresh and self.nodes[refreshed].deps == deps:
                order = (*order, refreshed)  # whatever else it waits for, it sees what the refresh made
            same = self._same(entry, recipe_key, deps, order)
            if same is not None:
                return self.nodes[same]
        node = Node(id, entry, arguments, deps, order, cache_key, recipe_key)
        self.nodes.append(node)
        if large:
            self.large[id] = large
        self._consumers.append(0)
        self._last_use.append(0)
        derived = entry.task.derived
        if derived:
            self._parts = True
        for needed in deps:
            self._last_use[needed] = id
            if not derived and not self._consumers[needed]:
                self._consume(needed)
        return node

    def _same(self, entry: Entry, recipe: str, deps: tuple[int, ...], order: tuple[int, ...]) -> int | None:
        """The node that does this work already; if there is none, the next one will be found for later calls."""
        refreshed = self._refreshed.get(recipe, -1)
        # A call that refreshes runs each time; a flow that does makes each result anew once.
        again = entry.refresh and entry.task.options.refresh_cache
        if refreshed >= 0 and not again and self._fits(refreshed, deps, order):
            return refreshed  # calls after a refresh see what it made
        if entry.refresh:
            self.ambiguous = self.ambiguous or refreshed >= 0 or recipe in self._by_recipe
            self._refreshed[recipe] = len(self.nodes)
            return None
        first = self._by_recipe.setdefault(recipe, len(self.nodes))
        if first == len(self.nodes):
            self.ambiguous = self.ambiguous or refreshed >= 0
            return None
        if first > refreshed and self._fits(first, deps, order):
            return first
        # The same recipe over other nodes: one of those was refreshed in between, or it waits for something else.
        other = self._apart.get((recipe, deps, order), -1)
        if other > refreshed:
            return other
        self._apart[recipe, deps, order] = len(self.nodes)
        self.ambiguous = True
        return None

    def _fits(self, id: int, deps: tuple[int, ...], order: tuple[int, ...]) -> bool:
        # A call that has to wait for something is another one: it may fail where the first does not.
        node = self.nodes[id]
        return node.deps == deps and node.order == order

    def follows_refresh(self, node: Node) -> bool:
        """Whether a node waits for one that refreshes the very result it asks for."""
        return any(self.nodes[n].entry.refresh and self.nodes[n].recipe_key == node.recipe_key for n in node.order)

    def forget_refresh(self, id: int) -> None:
        """A node that was to refresh its result failed: later calls of the same go back to what is stored."""
        recipe = self.nodes[id].recipe_key
        if recipe is not None and self._refreshed.get(recipe) == id:
            del self._refreshed[recipe]

    def _keys(self, entry: Entry, arguments: Mapping[str, Any], deps: tuple[int, ...]) -> tuple[str | None, str | None]:
        template = entry.template
        if template is None:
            if not entry.task.derived or self.nodes[deps[0]].recipe_key is None:
                return None, None
            # A part of a result is as certain as the result: its recipe is what is taken from what.
            part = digest(dict(arguments), self._resolve_recipe)
            return None, combine("part", (entry.task.identity, part))
        if not deps:
            key = template.cache_key(arguments)
            return key, key
        for dep in deps:
            if self.nodes[dep].recipe_key is None:
                return None, None
        return None, template.recipe_key(arguments, self._resolve_recipe)

    def _resolve_recipe(self, ref: Ref) -> str:
        key = self.nodes[ref.node].recipe_key
        assert key is not None  # callers asked for the recipes of all deps first
        return key

    def _consume(self, id: int) -> None:
        # Whoever takes a part of a result uses the result.
        while not self._consumers[id]:
            self._consumers[id] = 1
            if self.nodes[id].entry.task.derived:
                (id,) = self.nodes[id].deps

    def used_from(self, id: int, start: int) -> bool:
        """Whether a node from number `start` on uses this one's result."""
        return self._last_use[id] >= max(start, 1)

    def targets(self, start: int = 0) -> list[int]:
        """Nodes from number `start` on that no other node consumes, and those to be refreshed, which run in any case.

        A part of a result that nobody takes is none.
        """
        nodes, used = self.nodes, self._consumers
        candidates = (i for i in range(start, len(nodes)) if not used[i] or nodes[i].entry.refresh)
        return [i for i in candidates if not nodes[i].entry.task.derived]

    def outputs(self, start: int, held: Callable[[int], bool]) -> list[int]:
        """The targets from number `start` on, and the nodes of which a future is held.

        A flow may ask for the values of all of them, so they are judged together. A part of a result follows from it.
        """
        used = self._consumers
        candidates = (i for i in range(start, len(self.nodes)) if used[i] and held(i))
        return sorted({*self.targets(start), *(i for i in candidates if not self.nodes[i].entry.task.derived)})

    def sources(self, id: int) -> tuple[int, ...]:
        """The nodes whose results a node uses, where a part of a result stands for that result."""
        deps = self.nodes[id].deps
        if not self._parts or not any(self.nodes[dep].entry.task.derived for dep in deps):
            return deps
        found: dict[int, None] = {}
        for dep in deps:
            found.update(dict.fromkeys(self.sources(dep) if self.nodes[dep].entry.task.derived else (dep,)))
        return tuple(found)
