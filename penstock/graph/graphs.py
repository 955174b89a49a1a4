"""The graph of a run: nodes in the order of their calls, with their dependencies and consumers."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from penstock.digests.large import Large
from penstock.digests.python import combine, digest
from penstock.digests.refs import Ref
from penstock.graph.binding import Style
from penstock.graph.future_calls import Living
from penstock.graph.keys import KeyTemplate
from penstock.graph.mistakes import called_too_early, called_too_late
from penstock.graph.policies import CachePolicy
from penstock.graph.tasks import TaskDefinition


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A task as used by one flow: the definition, and the parts of keys that all of its calls share."""

    task: TaskDefinition
    template: KeyTemplate | None
    """None for a plain task: no key, no lookup, no record."""
    flow: str
    """The flow (or subflow) that calls it."""
    policy: CachePolicy | None = None
    """The policy from which the template was compiled."""
    refresh: bool = False
    """Whether to run even if a result exists."""
    log_prints: bool = False
    """Whether to send what the call prints to the log."""
    transaction: str = ""
    """The path of the transaction that its results belong to, if any."""
    reads_files: bool = field(init=False)
    """Whether the content of files is part of its keys."""
    may_change: bool = field(init=False)
    """Whether what its calls share may change during the run: constants that its code reads, or files of its policy."""

    def __post_init__(self) -> None:
        template = self.template
        object.__setattr__(self, "reads_files", template is not None and template.reads_files)
        object.__setattr__(self, "may_change", template is not None and template.may_change)


def _work(entry: Entry, recipe_key: str | None) -> str | None:
    if recipe_key is None or not entry.transaction:
        return recipe_key
    return f"{entry.transaction} {recipe_key}"


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
        # A dict would take three times the memory, and there may be a million nodes.
        self._values = tuple(arguments.values())
        self.deps = deps
        """The nodes whose results are arguments, each once, in order of first appearance."""
        self.order = order
        """The nodes that must finish first although their results are not used."""
        self.cache_key = cache_key
        """Known from the start if no argument comes from another node."""
        self.style: Style | None = None
        """How the caller passed the arguments, if that matters."""
        self.context: Mapping[ContextVar[Any], Any] | None = None
        """The caller's context variables, if any were set."""
        self.recipe_key = recipe_key
        """None below a plain task, whose results may differ each time. Equals the cache key if there are no deps."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name, with a `Ref` for each result of another node and a `Large` for each large value."""
        return dict(zip(self.entry.task.binding.parameters, self._values, strict=True))

    @property
    def name(self) -> str:
        """The name of the task."""
        return self.entry.task.name

    @property
    def cached(self) -> bool:
        """Whether results of this node are looked up and recorded. False also if a key function returned None."""
        return self.entry.template is not None and (self.cache_key is not None or bool(self.deps) or self.reads_later)

    @property
    def work(self) -> str | None:
        """What identifies its work in the run: the recipe, and the transaction, which may be rolled back."""
        return _work(self.entry, self.recipe_key)

    @property
    def reads_later(self) -> bool:
        """Whether calls that it waits for may write files that are part of its key, so that it has none before."""
        template = self.entry.template
        return template is not None and self.recipe_key is None and bool(self.order) and template.reads_files

    def __repr__(self) -> str:
        return f"Node({self.id}, {self.name})"


_SHORT_KEY = 40


class Graph:
    """Nodes by number, added by any thread. They only refer to earlier ones: the numbers are a topological order."""

    def __init__(self, living: Living | None = None) -> None:
        self.nodes: list[Node] = []
        self.living = living or Living()
        self._ended = False
        self.stopped_at: str | None = None
        """Where tracing ended early because the flow function needed a value that was not available."""
        self.large: dict[int, tuple[Large, ...]] = {}
        """The large arguments, by node."""
        self.lent: dict[int, tuple[str, ...]] = {}
        """The names of arguments with objects that could not be copied at the call, by node."""
        self.witnesses: dict[int, str | None] = {}
        """`KeyTemplate.witness` of the nodes whose arguments contain objects that the caller could still modify."""
        self._consumers = bytearray()  # 1 if a node uses the result, other than for a part that is not used
        self._last_use = array("q")  # the last node that uses the result, or 0
        self.ambiguous = False
        """Whether several nodes have one recipe, which could then have several results in one run."""
        self._parts = False  # whether any node takes a part of a result
        self._by_work: dict[str, int] = {}
        self._apart: dict[tuple[str, tuple[int, ...], tuple[int, ...]], int] = {}
        self._refreshed: dict[str, int] = {}
        self._filed: set[int] = set()  # nodes that read files of their policy, and all below them
        self._ordered: set[int] = set()  # nodes that wait for others without using their results, and all below them

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
        complete: Callable[[Node], object] | None = None,
    ) -> Node:
        """Add a node for a call, or return the existing node with the same key, so that the work is done once.

        Args:
            entry: The task.
            arguments: The arguments as `Binding.bind` returns them.
            deps: The nodes whose results are arguments.
            order: The nodes that must finish first although their results are not used.
            large: The large values among the arguments.
            complete: Called with a new node before other threads can see it.

        Raises:
            CycleError: The node would wait for one that does not exist yet.
            DigestError: An argument has no stable digest.
            TracingError: The run is over.
        """
        known, derived = len(self.nodes), entry.task.derived
        for needed in deps if not order else (*deps, *order):
            if not 0 <= needed < known:
                raise called_too_early(entry.task.name, needed)
        ordered = order or (self._ordered and not self._ordered.isdisjoint(deps))
        if ordered and entry.reads_files:
            order = tuple(dict.fromkeys((*order, *self._waited_for(deps), *self._waited_for(order))))
            cache_key = recipe_key = None
        elif entry.template is not None and not deps:
            cache_key = recipe_key = entry.template.cache_key(arguments)
        else:
            cache_key, recipe_key = None, self._recipe_of(entry, arguments, deps)
        work = recipe_key if not entry.transaction else _work(entry, recipe_key)
        nodes, lock = self.nodes, self.living.lock  # what follows is one step, and runs no users' code
        lock.acquire()  # `with` takes twice as long
        try:
            if self._ended and not derived:
                raise called_too_late(entry.task.name)
            alone = work is None or (work not in self._by_work and not entry.refresh and not self._refreshed)
            if work is not None and not alone:
                refreshed = self._refreshed.get(work, -1)
                if refreshed >= 0 and order and not entry.refresh and nodes[refreshed].deps == deps:
                    order = (*order, refreshed)  # so that it sees the refreshed result
                if (same := self._same(entry, work, deps, order)) is not None:
                    self.living.hold(same)
                    return nodes[same]
            id = len(nodes)
            node = Node(id, entry, arguments, deps, order, cache_key, recipe_key)
            if ordered:
                self._ordered.add(id)
            if entry.reads_files or (self._filed and not self._filed.isdisjoint(deps)):
                self._filed.add(id)
            if large:
                self.large[id] = large
            self._consumers.append(0)
            self._last_use.append(0)
            if derived:
                self._parts = True
            for needed in deps:
                self._last_use[needed] = id
                if not derived and not self._consumers[needed]:
                    self._consume(needed)
            self.living.counts[id] = 1  # a future, which the caller makes
            if complete is not None:
                complete(node)
            nodes.append(node)  # last: the driver looks meanwhile
            if work is not None and alone:
                self._by_work[work] = id  # by far the most common case
            elif work is not None:
                self._register(entry, work, deps, order, id)
        except BaseException:
            del self._consumers[len(nodes) :], self._last_use[len(nodes) :]
            raise
        finally:
            lock.release()
        return node

    def end(self) -> None:
        """Refuse further calls. Only parts of results may still be taken, and futures that go free nothing any more."""
        with self.living.lock:
            self._ended = True
            self.living.end()

    def _waited_for(self, ids: tuple[int, ...]) -> list[int]:
        """Return what these nodes wait for. A hit among them does not wait, but a call below that reads files does."""
        found: list[int] = []
        stack, seen = list(ids), set(ids)
        while stack:
            node = self.nodes[stack.pop()]
            if node.id not in self._ordered or (node.reads_later or not (node.cached or node.entry.task.derived)):
                continue  # it waits itself
            found += node.order
            more = {*node.deps, *node.order} - seen
            seen |= more
            stack += more
        return found

    def _same(self, entry: Entry, work: str, deps: tuple[int, ...], order: tuple[int, ...]) -> int | None:
        """Return the node that already does this work. If there is none, `_register` must follow."""
        refreshed = self._refreshed.get(work, -1)
        # A call with refresh_cache always runs; a flow with refresh_cache recomputes each result once.
        again = entry.refresh and entry.task.options.refresh_cache
        if refreshed >= 0 and not again and self._fits(refreshed, deps, order):
            return refreshed  # calls after a refresh see its result
        if entry.refresh:
            self.ambiguous = self.ambiguous or refreshed >= 0 or work in self._by_work
            return None
        first = self._by_work.get(work, -1)
        if first < 0:
            self.ambiguous = self.ambiguous or refreshed >= 0
            return None
        if first > refreshed and self._fits(first, deps, order):
            return first
        # The same recipe with other nodes: one of these was refreshed in between, or it waits for other calls.
        other = self._apart.get((work, deps, order), -1)
        if other > refreshed:
            return other
        self.ambiguous = True
        return None

    def _register(self, entry: Entry, work: str, deps: tuple[int, ...], order: tuple[int, ...], id: int) -> None:
        """Let later calls find a node whose work no other does."""
        if entry.refresh:
            self._refreshed[work] = id
        elif work not in self._by_work:
            self._by_work[work] = id
        else:
            self._apart[work, deps, order] = id

    def _fits(self, id: int, deps: tuple[int, ...], order: tuple[int, ...]) -> bool:
        # A call with additional nodes to wait for is a different one: it may fail where the first does not.
        node = self.nodes[id]
        return node.deps == deps and node.order == order

    def path_of(self, id: int) -> str:
        """Return the name of the node's task. For a part of a result, this is the path of the part: `rows[0].name`."""
        steps: list[str] = []
        while (node := self.nodes[id]).entry.task.derived and type(node.arguments["value"]) is Ref:
            given = node.arguments
            if "name" in given:
                steps.append(f".{given['name']}")
            else:
                shown = repr(given["key"]) if type(given["key"]) in (int, str) else ""
                steps.append(f"[{shown}]" if 0 < len(shown) <= _SHORT_KEY else "[…]")
            id = given["value"].node
        return node.name + "".join(reversed(steps))

    def follows_refresh(self, node: Node) -> bool:
        """Return whether a node waits for one that refreshes the same result."""
        return any(self.nodes[n].entry.refresh and self.nodes[n].recipe_key == node.recipe_key for n in node.order)

    def depends_on_files(self, id: int) -> bool:
        """Return whether the node, or one above it, reads files of its policy, which may change after its call."""
        return id in self._filed

    def is_superseded(self, id: int) -> bool:
        """Return whether a later node refreshes the result of this one."""
        work = self.nodes[id].work
        return work is not None and self._refreshed.get(work, id) > id

    def forget_recipe(self, id: int) -> None:
        """Note that files above a node were others than in its recipe, so that no later call gets its value."""
        work = self.nodes[id].work
        with self.living.lock:
            if id in self._filed and work is not None and self._by_work.get(work) == id:
                del self._by_work[work]

    def forget_refresh(self, id: int) -> None:
        """Note that a refresh failed, so that later calls with the same key use the stored result again."""
        work = self.nodes[id].work
        with self.living.lock:
            if work is not None and self._refreshed.get(work) == id:
                del self._refreshed[work]

    def _recipe_of(self, entry: Entry, arguments: Mapping[str, Any], deps: tuple[int, ...]) -> str | None:
        """Return the recipe key of a node whose cache key is not known yet, or that has none."""
        template = entry.template
        if template is None:
            if not entry.task.derived or self.nodes[deps[0]].recipe_key is None:
                return None
            # The recipe of a part consists of the item and the recipe of the result.
            part = digest(dict(arguments), self._resolve_recipe)
            return combine("part", (entry.task.identity, part))
        for dep in deps:
            if self.nodes[dep].recipe_key is None:
                return None
        return template.recipe_key(arguments, self._resolve_recipe)

    def _resolve_recipe(self, ref: Ref) -> str:
        key = self.nodes[ref.node].recipe_key
        assert key is not None  # callers check the recipes of all deps first
        return key

    def _consume(self, id: int) -> None:
        # Using a part of a result uses the result.
        while not self._consumers[id]:
            self._consumers[id] = 1
            if self.nodes[id].entry.task.derived:
                (id,) = self.nodes[id].deps

    def used_from(self, id: int, start: int) -> bool:
        """Return whether a node from number `start` on uses this node's result."""
        return self._last_use[id] >= max(start, 1)

    def targets(self, start: int = 0) -> list[int]:
        """Return the nodes from number `start` on that no other node consumes, and those that refresh their result.

        Parts of results that are not used are not included.
        """
        nodes, used = self.nodes, self._consumers
        candidates = (i for i in range(start, len(nodes)) if not used[i] or nodes[i].entry.refresh)
        return [i for i in candidates if not nodes[i].entry.task.derived]

    def outputs(self, start: int, held: Callable[[int], bool]) -> list[int]:
        """Return the targets from number `start` on, and the nodes with living futures, except parts of results.

        A flow may request the values of all of them, so they are planned together.
        """
        used = self._consumers
        candidates = (i for i in range(start, len(self.nodes)) if used[i] and held(i))
        return sorted({*self.targets(start), *(i for i in candidates if not self.nodes[i].entry.task.derived)})

    def sources(self, id: int) -> tuple[int, ...]:
        """Return the nodes whose results a node uses, with parts of results replaced by these results."""
        deps = self.nodes[id].deps
        if not self._parts or not any(self.nodes[dep].entry.task.derived for dep in deps):
            return deps
        found: dict[int, None] = {}
        for dep in deps:
            found.update(dict.fromkeys(self.sources(dep) if self.nodes[dep].entry.task.derived else (dep,)))
        return tuple(found)
