"""`RayRunner` runs each bundle of calls as one Ray task, which Ray never tries again by itself.

Outcomes return separately from values. Small values are sent in outcomes. Large values stay in Ray's object store and
pass between workers; the driver holds references to them as long as they may be needed.
"""

from __future__ import annotations

from typing import Any

from penstock.runners.base import Engine
from penstock.runners.ray.clusters import PROCESS
from penstock.runners.remote.settings import ClusterRunner
from penstock.runners.resources import WORKER_TIMEOUT
from penstock.storage.stores.base import Reach
from penstock.worker.messages import Preparation, Report, WorkerContext
from penstock.worker.shipping.code_packing import Ship


class RayRunner(ClusterRunner):
    """Runs calls on Ray.

    It uses the Ray to which this process is connected; otherwise the cluster at `address`; otherwise a Ray that it
    starts on this machine for the run, which listens on 127.0.0.1 and is shut down afterwards.

    As a context manager it stays connected, or keeps the Ray that it started, for several runs:

        with RayRunner(num_cpus=4) as runner:
            runner(first_flow)()
            runner(second_flow)()

    Args:
        address: The cluster: `ray://host:10001`, `host:6379` or `auto`; by default that of RAY_ADDRESS.
        ship: Packages and modules of the project to send to workers that cannot import them, by name or path.
        worker_setup: Called without arguments once in each worker process, before the first call of a run.
        worker_timeout: How many seconds a call may wait for a machine with the resources that it needs, after the last
            such machine disappeared. Then it fails with a `RunnerError`.
        init_options: Options of `ray.init`, such as `num_cpus=4` or `runtime_env=...`. They have no effect if this
            process is already connected. With `_node_ip_address=` a started Ray listens at another address.

    Raises:
        ConfigurationError: An argument is invalid.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        ship: Ship = (),
        worker_setup: Preparation | None = None,
        worker_timeout: float = WORKER_TIMEOUT,
        **init_options: Any,
    ) -> None:
        super().__init__(ship=ship, worker_setup=worker_setup, worker_timeout=worker_timeout)
        self.address = address
        self.init_options = init_options
        self._kept_open: list[object] = []

    def __repr__(self) -> str:
        # Options may contain secrets, and this text is stored with each run.
        parts = [repr(self.address)] if self.address is not None else []
        parts += [f"{name}={value!r}" for name, value in self.init_options.items() if isinstance(value, int | float)]
        return f"RayRunner({', '.join(parts)})"

    def __enter__(self) -> RayRunner:
        self._kept_open.append(PROCESS.join(self.address, self.init_options))
        return self

    def __exit__(self, *_: object) -> None:
        PROCESS.leave(self._kept_open.pop())

    @property
    def reach(self) -> Reach:
        return "host" if PROCESS.is_own(self.address) else "network"

    def open(self, context: WorkerContext, report: Report) -> Engine:
        seat = PROCESS.join(self.address, self.init_options)
        try:
            from penstock.runners.ray.engine import RayEngine

            own = PROCESS.is_own(self.address)
            setup = self.packed_setup(context)
            return RayEngine(context, report, seat, own=own, setup=setup, patience=self.worker_timeout)
        except BaseException:
            PROCESS.leave(seat)
            raise
