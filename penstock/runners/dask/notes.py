"""What other threads ask of the thread that serves an engine."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from penstock.runners.dask.graphs import Key
from penstock.runners.dask.worker import Kept


@dataclass(frozen=True, slots=True)
class Drop:
    """A note to let go of Dask tasks."""

    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Fetch:
    """A note that somebody wants Dask's future of a value."""

    handle: Kept
    asked: Future[Any]
