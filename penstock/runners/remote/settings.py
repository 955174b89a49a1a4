"""What all runners for clusters are told, whichever cluster it is."""

from __future__ import annotations

from penstock.runners.base import BindsFlows, checked_setup
from penstock.runners.remote.setup import packed_setup
from penstock.runners.resources import WORKER_TIMEOUT, checked_timeout
from penstock.storage.stores.base import Reach
from penstock.worker.messages import Preparation, WorkerContext
from penstock.worker.shipping.code_packing import Ship, check_ship, pack


class ClusterRunner(BindsFlows):
    """Settings of a runner whose workers are processes of a cluster: what is sent along to them, and waited for."""

    def __init__(
        self, *, ship: Ship = (), worker_setup: Preparation | None = None, worker_timeout: float = WORKER_TIMEOUT
    ) -> None:
        """Raises `ConfigurationError` for what cannot be shipped, called or waited for."""
        self.ship = check_ship(ship)
        self.worker_setup = checked_setup(worker_setup)
        self.worker_timeout = checked_timeout(worker_timeout)

    @property
    def reach(self) -> Reach:
        """See `Runner.reach`. Unless one knows better, workers may be anywhere."""
        return "network"

    def packed_setup(self, context: WorkerContext) -> bytes:
        """What workers need to know of a run; they read it with `read_setup`.

        Raises `ConfigurationError` for what cannot be shipped, and `RunnerError` if the run cannot be sent.
        """
        elsewhere = self.reach == "network"
        return packed_setup(context, prepare=self.worker_setup, shipped=pack(self.ship), elsewhere=elsewhere)
