"""The settings that all runners for clusters share."""

from __future__ import annotations

from penstock.runners.base import BindsFlows, checked_setup
from penstock.runners.remote.setup import packed_setup
from penstock.runners.resources import WORKER_TIMEOUT, checked_timeout
from penstock.storage.stores.base import Reach
from penstock.worker.messages import Preparation, WorkerContext
from penstock.worker.shipping.code_packing import Ship, check_ship, pack


class ClusterRunner(BindsFlows):
    """The base of runners whose workers are processes of a cluster."""

    def __init__(
        self, *, ship: Ship = (), worker_setup: Preparation | None = None, worker_timeout: float = WORKER_TIMEOUT
    ) -> None:
        """Create a runner.

        Args:
            ship: Packages and modules of the project to send to workers that cannot import them, by name or path.
            worker_setup: Called without arguments once in each worker process, before the first call of a run.
            worker_timeout: How many seconds a call may wait for a worker that can run it.

        Raises:
            ConfigurationError: An argument is invalid.
        """
        self.ship = check_ship(ship)
        self.worker_setup = checked_setup(worker_setup)
        self.worker_timeout = checked_timeout(worker_timeout)

    @property
    def reach(self) -> Reach:
        """See `Runner.reach`. By default workers may be on any machine."""
        return "network"

    def packed_setup(self, context: WorkerContext) -> bytes:
        """Return what workers need for a run. They read it with `read_setup`.

        Raises:
            ConfigurationError: A package or module cannot be shipped.
            SerializationError: The run cannot be sent.
        """
        elsewhere = self.reach == "network"
        return packed_setup(context, prepare=self.worker_setup, shipped=pack(self.ship), elsewhere=elsewhere)
