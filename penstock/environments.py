"""The environment of a run, resolved from settings: its stores, locks and runner."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import Any

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.errors import ConfigurationError
from penstock.graph.policies import INPUTS, CachePolicy, IsolationLevel, Part
from penstock.graph.tasks import TaskDefinition
from penstock.locks.addresses import lock_manager_from
from penstock.locks.base import LockManager
from penstock.locks.single_flight import FAR_SECONDS, Flight
from penstock.runners import runner_from
from penstock.runners.base import Runner
from penstock.runners.local.threads import ThreadRunner
from penstock.settings import Settings, current_settings
from penstock.storage import open_store
from penstock.storage.records.signing import Signatures
from penstock.storage.results.salts import salt_of
from penstock.storage.results.store import ResultStore
from penstock.storage.results.stored import StoredResult, find_stored
from penstock.storage.stores.base import ProbedStore, Reach, Store
from penstock.storage.stores.indexing import index_from, with_index
from penstock.worker.nesting import nesting

_log = logging.getLogger("penstock.keys")


class Environment:
    """The stores, lock managers and runner of a run, opened on first use. Not shared between runs.

    Args:
        settings: Where the parts are.
        store: The run's store, if it was given as an object instead of an address.
        clock: The time source for expiry.
    """

    def __init__(self, settings: Settings, *, store: Store | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        self.settings = settings
        self._store = store
        self.clock = clock
        self._results: dict[str, ResultStore] = {}
        self._signatures: Signatures | None = None
        self._locks: dict[str, LockManager] = {}

    def results(self, address: Any = None) -> ResultStore:
        """Return the results of a store, given as an address, path or object; None selects the run's own."""
        store = (self._store or self.settings.store) if address is None else address
        name = _name_of(store)
        opened = self._results.get(name)
        if opened is None:
            source: Store = open_store(store) if isinstance(store, str | os.PathLike) else store
            index = self.settings.index
            source = with_index(source, index_from(index) if index else None)
            opened = self._results[name] = ResultStore(source, clock=self.clock, signatures=self.signatures())
        return opened

    def signatures(self) -> Signatures | None:
        """Return what signs and verifies results according to the settings, or None.

        Can be sent to workers: it holds the location of the keys, which workers read there.

        Raises:
            ConfigurationError: The keys cannot be read.
        """
        if self._signatures is None:
            settings = self.settings
            self._signatures = Signatures.of(settings.signing_keys, required=settings.require_signatures)
        return self._signatures

    def runner(self, chosen: Runner | str | None) -> Runner:
        """Return the runner given in code, or else that of the settings. Inside a task the default is threads."""
        if chosen is None and nesting() is not None:
            return ThreadRunner()
        return runner_from(chosen if chosen is not None else self.settings.runner)

    def salt(self, *, make: bool = True) -> Callable[[], bytes]:
        """Return a function that reads the salt of the run's store once. `make` creates a missing salt."""
        return functools.cache(lambda: salt_of(self.results().store, make=make))

    def flight(self, policy: CachePolicy, storage: Any = None) -> Flight:
        """Return how concurrent computations of one key are prevented, for a task's policy and result storage."""
        level = policy.isolation_level
        if level is IsolationLevel.SERIALIZABLE:
            return Flight(policy.lock_manager or self.locks_of(storage), required=True)
        if level is IsolationLevel.READ_COMMITTED:
            return Flight(None, why="the policy says READ_COMMITTED")
        if Part.RUN_ID in policy.parts:
            return Flight(None, why="its keys belong to a single run")
        if self.settings.isolation == "read_committed":
            return Flight(None, why="the setting isolation says read_committed")
        if policy.lock_manager is not None:
            return Flight(policy.lock_manager)
        if self.settings.locks:
            return Flight(self.locks_of(storage))
        manager = self.locks_of(storage)
        # By attribute, so that no class of lock manager is imported that is not used.
        far = getattr(manager, "near", True) is False
        if far or getattr(manager, "batched", True) is False:
            place = "bucket" if far else "network folder"
            why = f"locks in a {place} cost requests, so only calls known to take {FAR_SECONDS:g} s are locked"
            return Flight(manager, after_seconds=FAR_SECONDS, why=why)
        return Flight(manager)

    def single_flight(self) -> tuple[bool, str]:
        """Return whether concurrent runs compute a key only once by default, and why."""
        flight, store = self.flight(INPUTS), self.results().store
        if flight.manager is None or flight.after_seconds:
            return False, f"runs may compute a key at the same time: {flight.why}"
        if isinstance(store, ProbedStore) and not store.conditions().enforced:
            return False, "runs may compute a key at the same time: the store does not enforce conditional writes"
        reach = flight.manager.reach
        if _nearer(reach, store.reach):
            return (
                False,
                f"runs may compute a key at the same time: the locks reach one {reach}, the store one {store.reach}",
            )
        return (
            True,
            f"concurrent runs within one {reach} compute a key once, with locks in {flight.manager!r}",
        )

    def locks_of_settings(self) -> LockManager:
        """Return the lock manager that the settings name, or the default one of their store."""
        return self.locks_of(None)

    def locks_of(self, storage: Any) -> LockManager:
        """Return the lock manager that the settings name, or the default one of a result storage."""
        # Runs that share a store share its locks, whatever other stores they use.
        store = self.results(None if self.settings.locks else storage).store
        address = self.settings.locks or _locks_beside(store)
        manager = self._locks.get(store.url)
        if manager is None:
            lease_seconds = self.settings.lease_seconds
            manager = self._locks[store.url] = lock_manager_from(address, lease_seconds=lease_seconds, store=store)
        return manager


def _nearer(one: Reach, other: Reach) -> bool:
    order = ("process", "host", "network")
    return order.index(one) < order.index(other)


def _locks_beside(store: Store) -> str:
    path = store.local_path("locks")
    if path is None:
        # A store on a network is shared, so its locks must be, too.
        return "store" if isinstance(store, ProbedStore) else "memory"
    return path


def _name_of(store: Any) -> str:
    if isinstance(store, str | os.PathLike):
        return os.fspath(store)
    url: str = store.url
    return f"{url} {id(store)}" if url == "memory://" else url  # each unnamed memory store is a store of its own


def stored(task: Any, key: str, *, store: Any = None, settings: Settings | None = None) -> StoredResult | None:
    """Return the current result of a task under a key, without loading its value.

    Args:
        task: A `Task`, or its identity as text: `module:function`, or its `key_name`.
        key: The cache key, as `penstock cache ls --json` lists it.
        store: The store: an address, a path or a `Store`. Defaults to that of the settings.
        settings: The settings to use. Defaults to those that apply here.

    Returns:
        The result, or None if the store has none.

    Raises:
        StoreError: The store cannot be read.
        SignatureRefused: The result's signature is missing or invalid.
    """
    identity: str = task if isinstance(task, str) else task.task_key
    return find_stored(Environment(settings or current_settings()).results(store), identity, key)


def check_reach(runner: Runner, manager: LockManager, task: str, *, reach: Reach | None = None) -> None:
    """Raise `ConfigurationError` if the locks do not cover all of the runner's workers.

    `reach` replaces the runner's own reach if the run is nested in a task of another run.
    """
    reach = reach or runner.reach
    if _nearer(manager.reach, reach):
        raise ConfigurationError(
            f"{type(manager).__name__} cannot lock for {type(runner).__name__}",
            where=f"task {task}",
            because=f"its locks cover one {manager.reach}, but the workers are spread over a {reach}",
            hint="use a lock manager that covers all workers, such as RedisLockManager, or set PENSTOCK_LOCKS=store",
        )


def check_store(runner: Runner, store: Store) -> None:
    """Raise `ConfigurationError` if the runner's workers cannot open the store by its address."""
    if store.reach == "process" and runner.reach != "process":
        raise ConfigurationError(
            f"{type(runner).__name__} cannot use {type(store).__name__}",
            where=store.url,
            because="its workers are other processes, but the store exists only in this one",
            hint="use a folder or a bucket as the store, or the thread runner",
        )


def check_conditions(store: Store, task: str) -> None:
    """Raise `ConfigurationError` if the store does not enforce conditional writes."""
    if isinstance(store, ProbedStore) and not (found := store.conditions()).enforced:
        versioned = ", as some services do in versioned buckets" if found.versioned else ""
        raise ConfigurationError(
            "this store cannot be used for SERIALIZABLE tasks",
            where=f"task {task}, {store.url}",
            because=f"conditional writes are {found.verdict} there{versioned}, so a key could be published twice",
            hint="use a bucket that enforces them (`penstock doctor` checks it), or another isolation level",
        )


def check_annotation(results: ResultStore, task: TaskDefinition) -> None:
    """Raise `CodecRefused` if a task's annotated result needs pickle and the store does not accept pickles."""
    from penstock.storage.formats.pickled import annotated_pickle  # formats are loaded with the first cached task

    if task.options.result_serializer is None and (parts := annotated_pickle(task.fn)):
        results.trust.refuse_pickle(task.name, "pickle", parts)


def warn_of_unmatched(pattern: str) -> None:
    _log.warning("no file matches Files(%r) in %s: keys contain that there is none", pattern, os.getcwd())
