"""Retries: how long to wait before the next attempt, and whether there is one. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from penstock.errors import ConfigurationError
from penstock.graph.tasks import TaskOptions

MAX_BACKOFF_RETRIES = 50
"""`exponential_backoff` lists at most this many delays."""


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """For `retry_delay_seconds`: delays of backoff_factor x 1, 2, 4, 8 … seconds."""

    def delays(retries: int) -> list[float]:
        return [backoff_factor * 2**n for n in range(min(retries, MAX_BACKOFF_RETRIES))]

    return delays


def delay_before(options: TaskOptions, retry: int, rng: random.Random) -> float:
    """Seconds to wait before retry number `retry` (from 1). A list that is too short repeats its last delay."""
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
        raise ConfigurationError(f"retry_delay_seconds asks to wait {delay} s", hint="give numbers of seconds")
    return max(0.0, delay)


def _nth(delays: Sequence[Any], retry: int) -> float:
    if not delays:
        return 0.0
    delay = delays[min(retry, len(delays)) - 1]
    if not isinstance(delay, int | float):
        raise ConfigurationError(f"retry_delay_seconds holds {delay!r}", hint="give numbers of seconds")
    return float(delay)
