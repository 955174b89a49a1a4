"""How many bundles are on their way to each worker besides the one it runs."""

from __future__ import annotations

MAX_AHEAD = 500
"""So many calls wait for each worker, if they are much shorter than the way from the driver to there: to submit many
at once costs an engine a fraction of what submitting each costs."""
SHORT_SECONDS = 0.01
"""A bundle that took less is short in this sense."""


class Prefetch:
    """One waits for each worker; of single short calls the more, the longer they stay short."""

    def __init__(self) -> None:
        self._ahead = 1

    def learn(self, calls: int, seconds: float) -> bool:
        """A bundle of so many calls took so long. Returns whether that changed anything."""
        before = self._ahead
        self._ahead = min(2 * before, MAX_AHEAD) if calls == 1 and seconds < SHORT_SECONDS else 1
        return self._ahead != before

    def slots(self, workers: float) -> float:
        """How many bundles may be under way."""
        return workers * (1 + self._ahead)
