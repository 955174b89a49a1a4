"""What an engine brings to a worker together with a bundle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from penstock.runners.remote.handles import Argument, Brought
from penstock.worker.shipping.shared_buffers import Packed
from penstock.worker.shipping.values import Pickled


class Delivery(ABC):
    """One bundle as it arrived. Nothing is unpickled, or fetched, before it is asked for."""

    run: str
    """Unique for each engine."""

    @abstractmethod
    def setup(self) -> bytes:
        """What `setup.packed_setup` made. Asked for if the process does not know the run yet."""

    @abstractmethod
    def tasks(self) -> Iterable[int]:
        """The numbers of the tasks that came along."""

    @abstractmethod
    def task(self, number: int) -> bytes:
        """A task as `RemoteEngine.share_task` was given it. Asked for once in each process."""

    def argument(self, handle: Argument) -> Any:
        """The value of a large argument as `RemoteEngine.share_argument` was given it."""
        raise NotImplementedError(f"no large argument was shared, and {handle} is asked for")

    def value(self, handle: Brought) -> Pickled | Packed | None:
        """A value that other bundles left; None if it is not there."""
        raise NotImplementedError(f"no value stays with the workers, and {handle} is asked for")
