"""Retries: the wait before the next attempt. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from penstock.errors import ConfigurationError
from penstock.graph.tasks import TaskOptions

MAX_BACKOFF_RETRIES = 50
"""The most delays that `exponential_backoff` returns; the last one repeats."""


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """Return a function for `retry_delay_seconds` that doubles the wait before each retry.

    Args:
        backoff_factor: The first wait in seconds. The waits are this times 1, 2, 4, 8, …

    Returns:
        A function of the number of retries that returns the list of waits.
    """

    def delays(retries: int) -> list[float]:
        return [backoff_factor * 2**n for n in range(min(retries, MAX_BACKOFF_RETRIES))]

    return delays


def delay_before(options: TaskOptions, retry: int, rng: random.Random) -> float:
    """Return the seconds to wait before a retry, numbered from 1. A list that is too short repeats its last delay."""
    delays = options.retry_delay_seconds
    if callable(delays):
        delays = delays(options.retries)
    if isinstance(delays, int | float):
        delay = float(delays)
    else:
        delay = _nth(list(delays), retry)
    if options.retry_jitter_factor:
        delay *= 1 + rng.random() * options.retry_jitter_factor
    if not math.isfinite(delay):
        raise ConfigurationError(
            f"retry_delay_seconds results in a wait of {delay} s", hint="return finite numbers of seconds"
        )
    return max(0.0, delay)


def _nth(delays: Sequence[Any], retry: int) -> float:
    if not delays:
        return 0.0
    delay = delays[min(retry, len(delays)) - 1]
    if not isinstance(delay, int | float):
        raise ConfigurationError(
            f"retry_delay_seconds contains {delay!r}", hint="use numbers of seconds, such as [1, 10, 60]"
        )
    return float(delay)
