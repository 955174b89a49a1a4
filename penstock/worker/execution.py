"""Execution of calls on a worker, with the same code on every engine.

inputs → cache key → look up ─ hit  → the stored result's record
                         └ miss → may it run? (a serializable key must be locked) → run → digest → publish
"""

from __future__ import annotations

import functools
import os
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

from penstock.clocks import SYSTEM_CLOCK
from penstock.digests.large import PLAIN
from penstock.digests.names import main_module
from penstock.digests.python import combine, digest
from penstock.digests.refs import Ref
from penstock.graph.keys import KeyTemplate
from penstock.graph.tracing import tracing
from penstock.objects.package_copies import CannotCopy
from penstock.objects.registrations import carrying
from penstock.runtime import TaskRunInfo, in_flow_run, in_task_run
from penstock.settings import in_force
from penstock.storage.records.records import ResultRecord
from penstock.storage.results.generations import Absent, Found
from penstock.storage.results.producers import this_process
from penstock.storage.results.recipes import entry_for, write_recipe
from penstock.storage.results.store import Restart, ResultStore, Undecided
from penstock.worker.bodies import Gather, returned, run_in_context
from penstock.worker.copies import copied
from penstock.worker.failures import describe
from penstock.worker.forks import end_if_forked
from penstock.worker.inputs import InputLost, Inputs, statements_about
from penstock.worker.lazy_inputs import lost_input
from penstock.worker.messages import (
    Bundle,
    Call,
    Outcome,
    OutcomeKind,
    ShippedTask,
    Waits,
    WorkerContext,
    cohort_of,
)
from penstock.worker.nesting import Calls, computes, within
from penstock.worker.passing import Passed, expiry_after, has_succeeded, part_of_whole, take_over
from penstock.worker.printing import printing_to_log, to_be_routed
from penstock.worker.result_digests import digest_of, digested, is_stream, no_digest, part_digests
from penstock.worker.retention import retained
from penstock.worker.shipping.same_code import check_code
from penstock.worker.shipping.values import refuse_live
from penstock.worker.streams import collected, collected_unless_batches
from penstock.worker.value_cache import ValueCache
from penstock.worker.witnesses import as_of_now, check_arguments, file_changed, hold_arguments, why_unpublished


class Worker(Inputs):
    """A worker of one run, with opened stores, tasks by number, and access to values inside the engine."""

    def __init__(
        self,
        context: WorkerContext,
        *,
        open_results: Callable[[str | None], ResultStore],
        fetch: Callable[[Any], Any],
        keep: Callable[[Any], Any],
        shares_memory: bool,
        keeps_published: bool = True,
        cache: ValueCache | None = None,
        report: Callable[[Waits], None] | None = None,
    ) -> None:
        """Create a worker. `keep(value)` returns a handle of a value in the engine; `fetch(handle)` returns the value.

        With `shares_memory`, handles refer to objects that other calls see, so each consumer gets a copy. Without
        `keeps_published`, published values are not kept in the engine but loaded from the store. `cache` is shared by
        the run's workers in this process. With `report`, the engine can lend out a worker whose call waits for others.
        """
        self._run = context.run
        self.run_id = context.run.id
        self._settings = context.settings
        self._script, self._digests = context.script, context.digests
        self._nesting = context.nesting
        self._report = report
        self._open_results = open_results
        self._fetch = fetch
        self._keep = keep
        self.shares_memory = shares_memory
        self.keeps_published = keeps_published
        self._cache = ValueCache() if cache is None else cache
        self._lazily = {}
        self.shipped_tasks = {}
        self.name = f"{platform.node()}:{os.getpid()}"

    def perform_bundle(self, bundle: Bundle, stopped: Callable[[], bool] = lambda: False) -> list[Outcome]:
        """Run the calls of a bundle in order, passing values between them. Return an outcome for each.

        A call is handed back untouched if one of its inner inputs failed, the bundle's time is over, or `stopped()` is
        true.
        """
        began = time.perf_counter()
        limit = bundle.seconds
        done: dict[int, Outcome] = {}
        current = Calls(self._nesting)
        waited = self._lending(bundle, current)
        main = self.shipped_tasks[bundle.calls[0].task].main  # the same for all tasks of a run
        script, digests = main_module(main, self._script), carrying(self._digests)
        with in_flow_run(self._run), in_force(self._settings), tracing(None), script, digests, within(current):
            for call in bundle.calls:
                clock = time.perf_counter()
                late = limit is not None and clock - began > limit and bool(done)
                if late or waited or stopped() or not take_over(call, done):
                    done[call.node] = self.outcome(call, "not_started")
                else:
                    task = self.shipped_tasks[call.task].task
                    current.begin(call.node, task.identity, task.options.tags)
                    outcome = done[call.node] = self.perform(call)
                    outcome.busy = time.perf_counter() - clock
        in_vain = {n for call in bundle.calls if call.inner and not has_succeeded(done[call.node]) for n in call.inner}
        for call in bundle.calls:
            if call.passes_on:
                done[call.node] = self._settled(call, done[call.node], call.node in in_vain)
        return [done[call.node] for call in bundle.calls]

    def _settled(self, call: Call, outcome: Outcome, in_vain: bool) -> Outcome:
        """Keep a value that was passed on inside the bundle in the engine only if it may still be requested."""
        if not isinstance(outcome.handle, Passed):
            return outcome
        keep = call.keep and self.keeps_published if outcome.record is not None else call.keep or in_vain
        try:
            outcome.handle = self._keep(outcome.handle.value) if keep else None
        except BaseException as error:  # noqa: BLE001 (pickling runs users' code)
            if outcome.record is None:
                return self.outcome(call, "failed", failure=describe(error))
            outcome.handle = None  # others load it from the store
        return outcome

    def _lending(self, bundle: Bundle, current: Calls) -> list[int]:
        """Lend out the worker while a run nested in a call waits. Return the list of calls that have waited."""
        report, waited = self._report, list[int]()
        if report is not None:

            def lend(waits: bool) -> None:
                waited.append(current.node)
                report(Waits(bundle.number, current.node, waits))

            current.lend = lend
        return waited

    def perform(self, call: Call) -> Outcome:
        """Run one call. Never raises: errors are part of the outcome."""
        shipped_task = self.shipped_tasks[call.task]
        try:
            for large in call.large:
                self._reach(large)
            if shipped_task.template is None:
                return self._run_plain(call, shipped_task)
            return _CachedCall(self, call, shipped_task, self._open_results(shipped_task.store)).settle()
        except InputLost as error:
            return Outcome(call.node, call.attempt, "input_lost", lost={error.node: error.generation}, worker=self.name)
        except BaseException as error:  # noqa: BLE001 (a worker reports; even KeyboardInterrupt and SystemExit are the task's)
            lost = lost_input(call, error, bool(self._lazy(shipped_task)), self._open_results) if call.inputs else None
            if lost is not None:
                return self.outcome(call, "input_lost", lost={lost[0]: lost[1].generation})
            return self.outcome(call, "failed", failure=describe(error))

    def _run_plain(self, call: Call, shipped_task: ShippedTask) -> Outcome:
        check_code(shipped_task)
        values = self.values(call, {})
        started, clock = time.time(), time.perf_counter()
        made = [self.run_function(call, shipped_task, values, collected)]  # a stream has one reader, a list has many
        del values  # an argument that is returned need not be copied if nothing else has it
        retained = self.is_retained(call, made)
        value = made[0]
        return Outcome(
            call.node,
            call.attempt,
            "executed",
            worker=self.name,
            handle=self.keep(call, value, retained=retained),
            digest=digest_of(value) if call.digest else None,
            part_of=part_of_whole(call) if shipped_task.task.derived else "",
            expires=call.upstream_expires,
            started=started,
            seconds=time.perf_counter() - clock,
        )

    # -- plain and cached calls ----------------------------------------------------------------------------------------

    def run_function(self, call: Call, shipped_task: ShippedTask, values: Mapping[str, Any], gather: Gather) -> Any:
        """Run the user's function with its runtime context; async functions are run to completion."""
        task = shipped_task.task
        name, tags = task.name, task.options.tags
        info = TaskRunInfo(
            call.attempt_id,
            f"{name}-{call.node}",
            name,
            call.attempt,
            values,
            tuple(sorted(tags)) if tags else (),
            self._run.id,
        )
        process = os.getpid()
        try:
            with in_task_run(info):
                if not call.context and not to_be_routed(shipped_task.log_prints):
                    value = returned(task.binding.call(task.fn, values, call.style), gather)
                else:
                    value = self._run_as_asked(call, shipped_task, values, gather)
        except BaseException as error:
            end_if_forked(process, name, error)
            raise
        end_if_forked(process, name)
        return value

    def _run_as_asked(self, call: Call, shipped_task: ShippedTask, values: Mapping[str, Any], gather: Gather) -> Any:
        """Run the function with the caller's context variables, and route its prints."""
        task = shipped_task.task
        with printing_to_log(task.name, enabled=shipped_task.log_prints):
            return run_in_context(
                call.context, lambda: returned(task.binding.call(task.fn, values, call.style), gather)
            )

    def is_retained(self, call: Call, made: list[Any]) -> bool:
        """Return whether the task may still modify the value it returned, and others would see that object."""
        stays = call.passes_on or (call.keep and self.shares_memory)
        return stays and type(made[0]) not in PLAIN and retained(made)

    def keep(self, call: Call, value: Any, *, retained: bool, published: bool = False) -> Any:
        """Return a handle by which other calls get the value, or None if none will."""
        if retained:
            try:
                value = copied(value)
            except CannotCopy:
                if published:
                    return None  # others load it from the store
        if not published and (call.passes_on or self.shares_memory):
            refuse_live(value, one_way=self.shares_memory)  # so that the result does not depend on bundling
        if call.passes_on:
            return Passed(value)
        return self._keep(value) if call.keep else None

    def keep_published(self, call: Call, value: Any, *, retained: bool) -> Any:
        """Return a handle like `keep`; None if the engine cannot hold the value, which is in the store."""
        try:
            return self.keep(call, value, retained=retained, published=True)
        except BaseException:  # noqa: BLE001 (pickling runs users' code, and the result is already published)
            return None

    def outcome(self, call: Call, kind: OutcomeKind, **facts: Any) -> Outcome:
        """Create an outcome of this worker."""
        return Outcome(call.node, call.attempt, kind, worker=self.name, **facts)


class _CachedCall:
    """One call of a node whose results are looked up and published."""

    def __init__(self, worker: Worker, call: Call, shipped_task: ShippedTask, results: ResultStore) -> None:
        assert shipped_task.template is not None
        self.worker, self.call, self.shipped_task, self.results = worker, call, shipped_task, results
        self.template = shipped_task.template
        self.task = shipped_task.task.identity
        self.digests: dict[int, str] = {n: s.digest for n, s in call.inputs.items() if s.digest is not None}
        self.inputs: dict[int, Any] = {}
        self.values: dict[str, Any] | None = None
        self.lent = False  # whether its arguments contain objects that other code can modify

    def settle(self) -> Outcome:
        """Find the result, or run and publish, or return why neither is possible yet."""
        call = self.call
        if call.witness is not None and self.worker.shares_memory:
            self.lent = hold_arguments(call, self.shipped_task)
        if self.template.patterns:
            self.template = as_of_now(self.template, call.cache_key, self._components)
        key = call.cache_key or self.template.cache_key(call.key_arguments(), self._resolve, self._values_if_needed())
        if key is None:
            return self.worker._run_plain(call, self.shipped_task)  # the key function returned None
        found = self.results.look_up(self.task, key, inside=self.shipped_task.transaction)
        there = found if isinstance(found, Found) and found.generation != call.seen else None
        if there is not None and there.refused is None:
            return self._adopt(there.record, "hit", started=0.0, seconds=0.0)
        unowned = call.cache_key is None and not call.owns_task
        if there is not None and there.refused is not None and not unowned:
            raise there.refused  # an unowned call may be a refresh, which only the driver knows
        if unowned or (self.shipped_task.serializable and call.session_id is None):
            return self.worker.outcome(call, "unowned", cache_key=key)
        return self._execute(key, found)

    def _resolve(self, ref: Ref) -> str:
        known = self.digests.get(ref.node)
        if known is None:
            # Values of plain tasks have no digest yet; it is computed here, where the value is needed anyway.
            value = self.inputs[ref.node] = self.worker.load(ref.node, self.call.inputs[ref.node])
            known = self.digests[ref.node] = digest(value)
        return known

    def _values_if_needed(self) -> dict[str, Any] | None:
        return self._loaded() if self.template.needs_values else None

    def _loaded(self) -> dict[str, Any]:
        if self.values is None:
            self.values = self.worker.values(self.call, self.inputs)
        return self.values

    def _execute(self, key: str, found: Found | Absent) -> Outcome:
        call, options = self.call, self.shipped_task.task.options
        check_code(self.shipped_task)
        values, components = self._loaded(), self._components()
        computes(key)
        started, clock = SYSTEM_CLOCK.now(), time.perf_counter()
        with self.template.running(self.shipped_task.task.name) as running:
            made = [self.worker.run_function(call, self.shipped_task, values, collected_unless_batches)]
        seconds = time.perf_counter() - clock
        if self.lent:
            check_arguments(call, self.template, self.shipped_task.task.name)
        retained = self.worker.is_retained(call, made)
        value = made[0]
        if note := why_unpublished(self.template, running, key, self._components, value):
            return self._unpublished(value, note, retained=retained, started=started, seconds=seconds)
        stream = is_stream(value)
        if not stream:
            refuse_live(value, one_way=True)
        value_digest = digested(value) if not stream else no_digest
        published = self.results.publish(
            self.task,
            key,
            value,
            after=found,
            attempt=call.attempt_id,
            session=call.session_id or "",
            fence=call.fencing_token or 0,
            digest=lambda: value_digest() or combine("result", (self.task, key, call.attempt_id)),
            key_parts=components,
            expires=expiry_after(options.cache_expiration, SYSTEM_CLOCK.now()),
            upstream_expires=call.upstream_expires,
            producer=this_process(run_id=self.worker.run_id, flow=self.shipped_task.flow),
            started=started,
            seconds=seconds,
            serializer=options.result_serializer,
            digests=part_digests() if stream else None,
            check=functools.partial(self._check_stream, key) if stream else None,
            transaction=self.shipped_task.transaction,
        )
        if isinstance(published, Restart):
            return self.worker.outcome(call, "closed", cache_key=key)
        if isinstance(published, Undecided):
            if stream:
                raise published.error(self.shipped_task.task.name)
            note = f"not published: {published.because}"
            return self._unpublished(value, note, retained=retained, started=started, seconds=seconds)
        notes: tuple[str, ...] = ()
        if not published.won and value_digest() not in (None, published.record.digest):
            notes = ("another attempt published a different value first: the task is not deterministic",)
        keep = published.won and not stream and (call.passes_on or self.worker.keeps_published)
        return self._adopt(
            published.record,
            "executed",
            started=started,
            seconds=seconds,
            handle=self.worker.keep_published(call, value, retained=retained) if keep else None,
            won=published.won,
            replaces=published.replaces,
            notes=notes,
        )

    def _unpublished(self, value: Any, note: str, *, retained: bool, **facts: Any) -> Outcome:
        handle = self.worker.keep(self.call, value, retained=retained)
        return self.worker.outcome(self.call, "executed", handle=handle, notes=(note,), off_recipe=True, **facts)

    def _adopt(self, record: ResultRecord, kind: OutcomeKind, **facts: Any) -> Outcome:
        expires = min((e for e in (record.expires, self.call.upstream_expires) if e is not None), default=None)
        self._write_recipe(record, expires)
        facts |= {"cache_key": record.key, "digest": record.digest, "record": record, "expires": expires}
        off_recipe = self.template is not self.shipped_task.template
        return self.worker.outcome(self.call, kind, off_recipe=off_recipe, **facts)

    def _write_recipe(self, record: ResultRecord, expires: float | None) -> None:
        if self.call.recipe_key is None or self.template is not self.shipped_task.template:
            return  # the recipe is that of other content
        inputs = statements_about(self.call.inputs, self.digests)
        origin = cohort_of(self.call.attempt_id)
        entry = entry_for(record, self.call.recipe_key, inputs=inputs, expires=expires, origin=origin)
        write_recipe(self.results, entry)

    def _check_stream(self, key: str) -> None:
        """Check again when the function, a generator, has ended. Raises `DigestError`."""
        if self.lent:
            check_arguments(self.call, self.template, self.shipped_task.task.name)
        if why_unpublished(self.template, None, key, self._components):
            raise file_changed(self.shipped_task.task.name)

    def _components(self, template: KeyTemplate | None = None) -> dict[str, Any]:
        components = (template or self.template).components(
            self.call.key_arguments(), self._resolve, self._values_if_needed()
        )
        assert components is not None  # there is a cache key
        return components
