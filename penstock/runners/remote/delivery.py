"""The interface by which a worker reads what an engine sent with a bundle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from penstock.runners.remote.handles import Argument, Brought
from penstock.worker.shipping.shared_buffers import Packed
from penstock.worker.shipping.values import Pickled


class Delivery(ABC):
    """A bundle as it arrived at a worker. Each part is fetched and unpickled only when it is needed."""

    run: str
    """The name of the run, unique for each engine."""

    @abstractmethod
    def setup(self) -> bytes:
        """Return what `setup.packed_setup` packed. Called if the process does not know the run yet."""

    @abstractmethod
    def tasks(self) -> Iterable[int]:
        """Return the numbers of the tasks that were sent along."""

    @abstractmethod
    def task(self, number: int) -> bytes:
        """Return a task as it was given to `RemoteEngine.share_task`. Called once in each process."""

    def argument(self, handle: Argument) -> Any:
        """Return the value of a large argument as it was given to `RemoteEngine.share_argument`."""
        raise NotImplementedError(f"no large argument was shared, and {handle} is asked for")

    def value(self, handle: Brought) -> Pickled | Packed | None:
        """Return a value that another bundle left; None if it is missing."""
        raise NotImplementedError(f"no value stays with the workers, and {handle} is asked for")
