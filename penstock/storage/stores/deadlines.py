"""Deadlines for whole requests to a service, and early warnings of requests that stall.

The timeouts of clients concern silence on a socket, and do not apply if a service accepts a request and never answers,
or stops reading it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import TypeVar

from penstock.errors import StoreUnreachable

REQUEST_SECONDS = 60.0
"""The deadline of a request, including repetitions."""
LEAST_BYTES_PER_SECOND = 64 * 1024
"""The deadline is extended by the time that its bytes take at this rate."""
STALL_SECONDS = 5.0
"""A warning is logged if a request takes longer than this."""
TOLD_SECONDS = 30.0
"""The minimum interval between warnings, since many requests stall for the same reason."""

_Answer = TypeVar("_Answer")
_log = logging.getLogger("penstock.store")


class Deadlines:
    """Watches the requests to one store."""

    def __init__(self, store: str) -> None:
        """`store` is its address."""
        self._store = store
        self._told = float("-inf")

    async def keep(self, request: Awaitable[_Answer], doing: str, where: str, *, size: int = 0) -> _Answer:
        """Return the request's answer. `size` is the number of bytes that it transfers.

        Raises `StoreUnreachable` at the deadline. It is then unknown what became of the request.
        """
        seconds = REQUEST_SECONDS + size / LEAST_BYTES_PER_SECOND
        notice = asyncio.get_running_loop().call_later(STALL_SECONDS, self._tell, doing, where, seconds)
        try:
            async with asyncio.timeout(seconds) as limit:
                return await request
        except TimeoutError as error:
            if not limit.expired():
                raise  # the client's own
            raise StoreUnreachable(
                f"{doing} did not end within {seconds:.0f} s",
                where=where,
                because="the service accepted the request but did not answer",
                hint="check whether the service is overloaded or its disk is full; published results are not affected",
            ) from error
        finally:
            notice.cancel()

    def _tell(self, doing: str, where: str, seconds: float) -> None:
        now = time.monotonic()
        if now - self._told >= TOLD_SECONDS:
            self._told = now
            _log.warning(
                "%s stalls: %s %s for %.0f s now, and fails after %.0f s",
                self._store,
                doing,
                where,
                STALL_SECONDS,
                seconds,
            )
