"""Which pruned nodes lie between decisions, so that only a look at them tells whether the decisions agree.

A stored result states the digests of its direct inputs. What lies further up is pruned and stays unseen, which is fine
as long as nothing else depends on it: the result was made from one consistent graph. As soon as a node above it is
decided by itself, or lies above another result too, the two could have been made from different values of it. Then
the nodes on the way have to state what they were made from.

    decided ──▶ pruned ──▶ hit         the pruned node is looked at
    pruned ──▶ pruned ──▶ hit          the second one is
       └────▶ hit

Hits of one **origin** were written by one run, whose values all belonged together: there is nothing to compare between
them. The pruned nodes above the hits of one origin are its *cone*. They are walked once and never looked at. A cone
that something else turns out to share is *opened*: from then on each use of each of its nodes is known. Every node and
every edge is visited at most twice, however often a graph grows.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Mapping

from penstock.graph.graphs import Graph


class Between:
    """Finds the undecided nodes to be looked at, while more and more nodes of a graph are decided."""

    def __init__(self, graph: Graph, decided: Container[int], origins: Mapping[int, str | None]) -> None:
        """`origins` are those of decided nodes; None is one of its own."""
        self._graph = graph
        self._decided = decided
        self._origins = origins
        self._owner: dict[int, Hashable] = {}  # of the nodes in closed cones
        self._indirect: set[int] = set()  # those of them that another pruned node uses
        self._cones: dict[Hashable, list[int]] = {}  # hits and pruned nodes, by origin
        self._passed: dict[int, set[Hashable]] = {}  # decided nodes of an origin, above pruned ones of the same
        self._walked: set[int] = set()
        self._silent: set[int] = set()  # hits that do not state their inputs, and these inputs
        self._noted: set[int] = set()  # the nodes of opened cones
        self._uses: dict[int, list[int]] = {}  # of their inputs: which of them use it
        self._needed: set[int] = set()

    @property
    def active(self) -> bool:
        """Whether anything is known of pruned nodes, so that each further decision counts."""
        return bool(self._walked)

    def decided(self, id: int) -> None:
        """A node has been decided (anew): what it lies above has to agree with it."""
        owner, origin = self._owner.get(id), self._origin(id)
        if owner is not None and owner != origin and id in self._indirect:
            self._open(owner)
        for passed in self._passed.pop(id, ()):
            if passed != origin:
                self._open(passed)
        for user in self._uses.get(id, ()):
            self._need(user)

    def claimed(self, id: int, *, silent: bool) -> None:
        """A decided node stands by what it was made from; a `silent` one does not say what that was."""
        if silent:
            self._silent.update((id, *self._graph.sources(id)))
        if id in self._walked or id in self._noted:
            return  # what is above it is known already
        self._walked.add(id)
        origin = self._origin(id)
        cone, others, alone = self._walk(id, origin)
        self._cones.setdefault(origin, []).extend((id, *cone))
        if others or not alone:
            for each in (origin, *others):
                self._open(each)

    def need(self, id: int) -> None:
        """A look has to be taken at an undecided node, and then at whatever uses it."""
        self._need(id)

    def take_needed(self) -> list[int]:
        """The undecided nodes to be looked at, found since the last call."""
        found = sorted(id for id in self._needed if id not in self._decided)
        self._needed.clear()
        return found

    # -- inside -------------------------------------------------------------------------------------------------------

    def _origin(self, id: int) -> Hashable:
        origin = self._origins.get(id)
        return id if origin is None else origin

    def _walk(self, hit: int, origin: Hashable) -> tuple[list[int], list[Hashable], bool]:
        """The pruned nodes above a hit that are in no cone yet; origins that it shares nodes with; whether no pruned
        node above it uses a decided one of another origin, or one of an opened cone."""
        owner, indirect = self._owner, self._indirect
        cone: list[int] = []
        others: list[Hashable] = []
        alone = True
        stack = [hit]
        while stack:
            user = stack.pop()
            for dep in self._graph.sources(user):
                if dep in self._decided:
                    if user != hit and self._origin(dep) == origin:
                        self._passed.setdefault(dep, set()).add(origin)
                    elif user != hit:
                        alone = False
                elif dep in self._noted:
                    alone = False
                else:
                    if dep not in owner:
                        owner[dep] = origin
                        cone.append(dep)
                        stack.append(dep)
                    elif owner[dep] != origin and (user != hit or dep in indirect or dep in self._silent):
                        others.append(owner[dep])
                    if user != hit:
                        indirect.add(dep)
        return cone, others, alone

    def _open(self, origin: Hashable) -> None:
        """Note each use of the nodes of a cone, and of those cones that it shares nodes with."""
        todo = [origin]
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
            # What several nodes use may have been another value for each of them.
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
