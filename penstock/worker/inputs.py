"""Loading the inputs of calls on a worker."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

from penstock.digests.large import Large
from penstock.digests.refs import Ref
from penstock.errors import DamagedResult
from penstock.graph.agreement import as_statement
from penstock.graph.arguments import fill_all
from penstock.objects.copies import own_copy
from penstock.objects.package_copies import CannotCopy
from penstock.storage.results.recipes import MAX_RECIPE_INPUTS
from penstock.storage.results.store import ResultStore
from penstock.worker.copies import OwnCopies, copied
from penstock.worker.lazy_inputs import filled_lazily, lazy_parameters, scanned
from penstock.worker.messages import NO_GENERATION, Call, Input, ShippedTask
from penstock.worker.passing import Passed, own_arguments
from penstock.worker.reading import read_back
from penstock.worker.shipping.loading import loading
from penstock.worker.value_cache import ValueCache


def statements_about(inputs: Mapping[int, Input], digests: Mapping[int, str]) -> list[str] | None:
    """Return what a recipe entry states about each input (`Planner.statement`), or None if not all are known."""
    found = [
        as_statement(digests.get(node, ""), [source.part_of]) if source.part_of else digests.get(node, "")
        for node, source in inputs.items()
    ]
    return found if len(found) <= MAX_RECIPE_INPUTS and all(found) else None


class InputLost(Exception):
    """Stored bytes of an input are missing or damaged, so that the driver must recompute it."""

    def __init__(self, node: int, generation: int) -> None:
        super().__init__(node, generation)
        self.node = node
        self.generation = generation


_PASSES = (InputLost, OSError)
"""Errors of reading an input that its own code has not caused."""


class Inputs:
    """Provides the values of a worker's calls."""

    run_id: str
    shipped_tasks: dict[int, ShippedTask]
    _open_results: Callable[[str | None], ResultStore]
    _fetch: Callable[[Any], Any]
    shares_memory: bool
    _cache: ValueCache
    _lazily: dict[int, frozenset[str]]

    def values(self, call: Call, loaded: dict[int, Any]) -> dict[str, Any]:
        """Return the call's arguments with all inputs loaded; `loaded` contains those that already are.

        Raises `InputLost`.
        """
        shipped_task = self.shipped_tasks[call.task]
        return shipped_task.task.binding.unmarked(self._filled(call, shipped_task, loaded))

    def _filled(self, call: Call, shipped_task: ShippedTask, loaded: dict[int, Any]) -> dict[str, Any]:
        lazy = self._lazy(shipped_task)
        arguments = call.arguments
        again = self.shares_memory and (shipped_task.template is not None or shipped_task.task.options.retries)
        if call.lent:
            arguments = own_arguments(arguments, OwnCopies, names=None if again else call.lent)
        elif again:
            arguments = own_arguments(arguments)  # so that another attempt finds them unmodified
        if not lazy and not call.inputs and not call.large:
            return dict(arguments)

        receives: dict[int, str] = {}  # the first argument with a value; others get copies, as of a flow's objects
        others: dict[tuple[int, str], Any] = {}

        def resolve(name: str, ref: Ref) -> Any:
            if ref.node not in loaded:
                loaded[ref.node] = self.load(ref.node, call.inputs[ref.node], reads=shipped_task.task.derived)
            value = loaded[ref.node]
            if receives.setdefault(ref.node, name) == name:
                return value
            if (ref.node, name) not in others:
                others[ref.node, name] = OwnCopies().whole(value)
            return others[ref.node, name]

        if not lazy:
            return fill_all(arguments, resolve)
        eager = {name: argument for name, argument in arguments.items() if name not in lazy}
        filled = fill_all(eager, resolve)
        scan = functools.partial(self._scan, call)
        return {n: filled[n] if n in filled else filled_lazily(a, scan) for n, a in arguments.items()}

    def _reach(self, large: Large) -> None:
        """Let a large argument without a value take it from this process's cache."""
        if large.handle is not None and not self.shares_memory:
            place = ("argument", self.run_id, large.name)
            fetch = functools.partial(self._fetched, large.handle)
            large.load_by(lambda: self._cache.get(place, large.size, fetch, shared=True))

    def _lazy(self, shipped_task: ShippedTask) -> frozenset[str]:
        """Return the parameters that receive stored tables as Datasets instead of values."""
        known = self._lazily.get(shipped_task.number)
        if known is None:
            known = self._lazily[shipped_task.number] = lazy_parameters(shipped_task.task.fn)
        return known

    def _scan(self, call: Call, node: int) -> Any:
        source = call.inputs[node]
        try:
            return scanned(source, self._open_results, self._fetched)
        except DamagedResult as error:
            raise InputLost(node, source.record.generation if source.record else NO_GENERATION) from error

    def _fetched(self, handle: Any) -> Any:
        return handle.value if isinstance(handle, Passed) else self._fetch(handle)

    def load(self, node: int, source: Input, *, reads: bool = False) -> Any:
        """One input's value: from the engine if it is there, else from the store.

        The caller may modify it, unless it only `reads`. A value that is in no store and cannot be copied, such as a
        lock or a connection, is shared between threads and inside a bundle.
        """
        with contextlib.nullcontext() if self.shares_memory else loading():
            return read_back(
                lambda: self._load(node, source, reads=reads), f"the result of node {node}", passes=_PASSES
            )

    def _load(self, node: int, source: Input, *, reads: bool) -> Any:
        if source.handle is not None:
            value = self._fetched(source.handle)
            shares = isinstance(source.handle, Passed) or self.shares_memory
            if not shares or source.sole or reads:
                return value
            try:
                return copied(value) if source.record is None else own_copy(value)
            except CannotCopy:
                if source.record is None:
                    return value
        record = source.record
        assert record is not None  # an input has a record or a handle
        try:
            return self._cache.get(
                (source.store, record.slot_name, record.attempt),
                record.size,
                lambda: self._open_results(source.store).load(record),
                shared=source.shared and not record.lazy,  # lazy values are cheap to open again
            )
        except DamagedResult as error:
            raise InputLost(node, record.generation) from error
