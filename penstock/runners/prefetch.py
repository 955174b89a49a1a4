"""Prefetching: how many bundles are queued for each worker in addition to the one it runs."""

from __future__ import annotations

MAX_AHEAD = 500
"""The most calls queued for each worker, if they are much shorter than a round trip to the driver: submitting many at
once is much cheaper than one by one."""
SHORT_SECONDS = 0.01
"""Bundles that take less than this are short in this sense."""


class Prefetch:
    """Decides the number of queued bundles: one per worker, and increasingly more as long as single calls are short."""

    def __init__(self) -> None:
        self._ahead = 1

    def learn(self, calls: int, seconds: float) -> bool:
        """Record the number of calls and the duration of a bundle. Return whether that changed the decision."""
        before = self._ahead
        self._ahead = min(2 * before, MAX_AHEAD) if calls == 1 and seconds < SHORT_SECONDS else 1
        return self._ahead != before

    def places(self, workers: float) -> float:
        """Return how many bundles may be submitted at a time."""
        return workers * (1 + self._ahead)
