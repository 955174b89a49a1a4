"""Finds the pruned nodes between decisions that must be looked up to know whether the decisions agree.

A stored result states the digests of its direct inputs. Nodes further up are pruned and not looked up. That is correct
as long as nothing else depends on them, since the result was computed from one consistent graph. But if a node above it
is itself decided, or is also above another result, the two may have been computed from different values of that node.
Then the nodes in between must state their inputs.

    decided ──▶ pruned ──▶ hit         the pruned node is looked up
    pruned ──▶ pruned ──▶ hit          the second one is looked up
       └────▶ hit

Hits of one **cohort** were written by one run, whose values all belong together, so they need not be compared. The
pruned nodes above the hits of one cohort are its *cone*. They are walked once and not looked up. A cone that turns out
to be shared with something else is *opened*: each use of each of its nodes is recorded from then on. Every node and
edge is visited at most twice, however often the graph grows.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Mapping

from penstock.graph.graphs import Graph


class Between:
    """Finds the undecided nodes that must be looked up, while nodes of a graph are being decided."""

    def __init__(self, graph: Graph, decided: Container[int], cohorts: Mapping[int, str | None]) -> None:
        """`cohorts` are those of decided nodes; None is a different cohort for each node."""
        self._graph = graph
        self._decided = decided
        self._cohorts = cohorts
        self._owner: dict[int, Hashable] = {}  # the cohorts of nodes in closed cones
        self._indirect: set[int] = set()  # those of these nodes that another pruned node uses
        self._cones: dict[Hashable, list[int]] = {}  # hits and pruned nodes, by cohort
        self._passed: dict[int, set[Hashable]] = {}  # decided nodes above pruned ones of the same cohort
        self._walked: set[int] = set()
        self._silent: set[int] = set()  # hits that do not state their inputs, and those inputs
        self._noted: set[int] = set()  # the nodes of opened cones
        self._uses: dict[int, list[int]] = {}  # by input of these: the nodes of opened cones that use it
        self._needed: set[int] = set()

    @property
    def active(self) -> bool:
        """Return whether any pruned nodes are known, so that further decisions must be reported."""
        return bool(self._walked)

    def decided(self, id: int) -> None:
        """Note that a node was decided, or decided again: everything below it must agree with it."""
        owner, cohort = self._owner.get(id), self._cohort(id)
        if owner is not None and owner != cohort and id in self._indirect:
            self._open(owner)
        for passed in self._passed.pop(id, ()):
            if passed != cohort:
                self._open(passed)
        for user in self._uses.get(id, ()):
            self._need(user)

    def heard(self, id: int, *, silent: bool) -> None:
        """Note what a decided node states about its inputs; a `silent` one states nothing."""
        if silent:
            self._silent.update((id, *self._graph.sources(id)))
        if id in self._walked or id in self._noted:
            return  # the nodes above it are already known
        self._walked.add(id)
        cohort = self._cohort(id)
        cone, others, alone = self._walk(id, cohort)
        self._cones.setdefault(cohort, []).extend((id, *cone))
        if others or not alone:
            for each in (cohort, *others):
                self._open(each)

    def need(self, id: int) -> None:
        """Request the lookup of an undecided node and of everything that uses it."""
        self._need(id)

    def take_needed(self) -> list[int]:
        """Return the undecided nodes to look up that were found since the last call."""
        found = sorted(id for id in self._needed if id not in self._decided)
        self._needed.clear()
        return found

    # -- inside -------------------------------------------------------------------------------------------------------

    def _cohort(self, id: int) -> Hashable:
        cohort = self._cohorts.get(id)
        return id if cohort is None else cohort

    def _walk(self, hit: int, cohort: Hashable) -> tuple[list[int], list[Hashable], bool]:
        """Walk the pruned nodes above a hit.

        Returns the nodes that are in no cone yet; the cohorts with which it shares nodes; and whether no pruned node
        above it uses a decided node of another cohort or a node of an opened cone.
        """
        owner, indirect = self._owner, self._indirect
        cone: list[int] = []
        others: list[Hashable] = []
        alone = True
        stack = [hit]
        while stack:
            user = stack.pop()
            for dep in self._graph.sources(user):
                if dep in self._decided:
                    if user != hit and self._cohort(dep) == cohort:
                        self._passed.setdefault(dep, set()).add(cohort)
                    elif user != hit:
                        alone = False
                elif dep in self._noted:
                    alone = False
                else:
                    if dep not in owner:
                        owner[dep] = cohort
                        cone.append(dep)
                        stack.append(dep)
                    elif owner[dep] != cohort and (user != hit or dep in indirect or dep in self._silent):
                        others.append(owner[dep])
                    if user != hit:
                        indirect.add(dep)
        return cone, others, alone

    def _open(self, cohort: Hashable) -> None:
        """Record each use of the nodes of a cone, and of the cones with which it shares nodes."""
        todo = [cohort]
        while todo:
            users = [user for user in self._cones.pop(todo.pop(), ()) if user not in self._noted]
            self._noted.update(users)
            for user in users:
                self._owner.pop(user, None)
            for user in users:
                for dep in self._graph.sources(user):
                    if dep in self._owner:
                        todo.append(self._owner[dep])
                    self._use(dep, user)

    def _use(self, dep: int, user: int) -> None:
        users = self._uses.setdefault(dep, [])
        users.append(user)
        if dep in self._decided or dep in self._needed:
            self._need(user)
        elif len(users) > 1:
            # A node with several users may have had a different value for each of them.
            for each in users if len(users) == 2 else (user,):
                self._need(each)
            if dep in self._silent:
                self._need(dep)

    def _need(self, id: int) -> None:
        stack = [id]
        while stack:
            id = stack.pop()
            if id not in self._needed and id not in self._decided:
                self._needed.add(id)
                stack += self._uses.get(id, ())
