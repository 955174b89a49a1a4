"""RayRunner: calls run on Ray, a bundle of them as one Ray task that is never tried again by Ray itself.

Outcomes come back apart from values. Small values travel inside of outcomes, large ones stay in Ray's object store and
go from worker to worker. The driver only holds references to them, until nobody can ask for them any more.
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

    On the Ray that this process is connected to; else on the cluster at `address` (`ray://host:10001`, `host:6379`,
    `auto`; by default RAY_ADDRESS); else on one started for the run, on this machine. Only that one is shut down
    afterwards. `init_options` go to `ray.init`, such as `num_cpus=4` or `runtime_env=...`, and mean nothing to a Ray
    that this process is already connected to. What is started listens on 127.0.0.1 alone, unless they hold
    `_node_ip_address=`. `ship=["pkg"]` sends packages and modules of the project along, by name
    or path, for workers that cannot import them. `worker_setup` is called without arguments once in each worker
    process, before the run's first call there.

    `worker_timeout` is how many seconds a call may wait for a machine that has what it asks for, once the last one that
    had it is gone, before it fails with a `RunnerError`.

    As a context manager it stays connected, or keeps the Ray it started, from one run to the next:

        with RayRunner(num_cpus=4) as runner:
            runner(first_flow)()
            runner(second_flow)()
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
        # Options may hold secrets, and this is written down with each run.
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
