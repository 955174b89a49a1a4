"""The worker of a bundle on any cluster. It reads the bundle, performs its calls and separates values that stay."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from penstock.runners.remote.delivery import Delivery
from penstock.runners.remote.handles import Argument, Brought, Placed
from penstock.runners.remote.workers.interrupting import Interrupted
from penstock.runners.remote.workers.known_runs import KnownRun, known_run
from penstock.worker.execution import Worker
from penstock.worker.failures import describe, portable
from penstock.worker.inputs import InputLost
from penstock.worker.messages import NO_GENERATION, Bundle, Call, Failure, Outcome
from penstock.worker.remote import portable_outcomes
from penstock.worker.shipping.code_unpacking import explained
from penstock.worker.shipping.shared_buffers import Packed, pack, unpack
from penstock.worker.shipping.values import INLINE_VALUE_BYTES, Pickled, read_value
from penstock.worker.shipping.wire import unpack_bundle


def opened(delivery: Delivery, data: bytes, using: ExitStack) -> tuple[KnownRun, Bundle] | Failure:
    """Return a bundle and its run, or the reason why they cannot be read here.

    Shipped modules stay in use until `using` closes.
    """
    try:
        return known_run(delivery, using), unpack_bundle(data)
    except Interrupted:
        raise
    except BaseException as error:  # noqa: BLE001 (what unpickling imports and runs is the user's code)
        return portable(describe(explained(error)))


@dataclass(frozen=True, slots=True)
class _Staying:
    """A value that stays here, until the end of its bundle."""

    packed: Packed


class BundleWorker(Worker):
    """The worker of one bundle. A process may have several at a time."""

    inline_value = INLINE_VALUE_BYTES
    """The largest value that is sent inside its outcome, in bytes."""
    inline_bundle = 1024 * 1024
    """The largest total of such values in a bundle, in bytes. Outcomes reach the driver; other values do not."""

    def __init__(self, run: KnownRun, delivery: Delivery) -> None:
        super().__init__(
            run.context,
            open_results=run.open_results,
            fetch=self._fetch_value,
            keep=self._keep_value,
            shares_memory=False,
            cache=run.cache,
        )
        self.shipped_tasks, self._lazily = run.shipped_tasks, run.lazily
        self._delivery = delivery
        self._room = self.inline_bundle

    def outcomes_and_values(
        self, bundle: Bundle, stopped: Callable[[], bool] = lambda: False
    ) -> tuple[list[Outcome], dict[int, Pickled | Packed]]:
        """Perform the calls of a bundle that begin before `stopped` returns True.

        Returns:
            The outcomes, ready to be sent, and the values that stay, by node. The handles of outcomes refer to values.
        """
        try:
            outcomes = portable_outcomes(self.perform_bundle(bundle, stopped))
        finally:
            # These references form a cycle with this worker, which would keep all data of the bundle in memory.
            del self._fetch, self._keep, self._delivery
        values: dict[int, Pickled | Packed] = {}
        for call, outcome in zip(bundle.calls, outcomes, strict=True):
            if isinstance(outcome.handle, _Staying):
                values[outcome.node] = outcome.handle.packed
                outcome.handle = Placed(len(values) - 1)
            elif call.promised and outcome.handle is not None:
                values[outcome.node] = outcome.handle  # bundles that were submitted earlier read it there
        return outcomes, values

    def perform(self, call: Call) -> Outcome:
        """Perform a call if all promised values exist. Other missing values are read from the store."""
        for node, source in call.inputs.items():
            if isinstance(source.handle, Brought) and self._delivery.value(source.handle) is None:
                if source.handle.promised:
                    return self.outcome(call, "not_started")
                if source.record is not None:
                    call.inputs = {**call.inputs, node: replace(source, handle=None)}
        return super().perform(call)

    def _fetch_value(self, handle: Pickled | Brought | Argument) -> Any:
        if isinstance(handle, Argument):
            return self._delivery.argument(handle)
        found = self._delivery.value(handle) if isinstance(handle, Brought) else handle
        if found is None:
            assert isinstance(handle, Brought)  # the others are there
            raise InputLost(handle.node, NO_GENERATION)
        return read_value(found) if isinstance(found, Pickled) else unpack(found)

    def _keep_value(self, value: Any) -> Pickled | _Staying:
        packed = pack(value, inline=min(self._room, self.inline_value))
        if isinstance(packed, Pickled):
            self._room -= len(packed.data)
            return packed
        return _Staying(packed)


class InlineWorker(BundleWorker):
    """A worker for engines that leave no values with workers: all values are sent to the driver in outcomes."""

    inline_value = inline_bundle = sys.maxsize
