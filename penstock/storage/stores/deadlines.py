"""A deadline for each request to a service as a whole, and a warning, within seconds, of one that does not end.

The clients' own time-outs are about silence on a socket: a service that takes a request in and never answers, or stops
reading it, is silent without end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import TypeVar

from penstock.errors import StoreUnreachable

REQUEST_SECONDS = 60.0
"""A request that is not over after so long, repeats included, has failed."""
LEAST_BYTES_PER_SECOND = 64 * 1024
"""One with many bytes has as much longer as they take at this pace."""
STALL_SECONDS = 5.0
"""After so long without an end it is told that the store stalls."""
TOLD_SECONDS = 30.0
"""And not again for so long: many requests wait for the same reason."""

_Answer = TypeVar("_Answer")
_log = logging.getLogger("penstock.store")


class Deadlines:
    """Watches the requests to one store."""

    def __init__(self, store: str) -> None:
        """`store` is its address."""
        self._store = store
        self._told = float("-inf")

    async def keep(self, request: Awaitable[_Answer], doing: str, where: str, *, size: int = 0) -> _Answer:
        """The request's answer. `size` are the bytes that it moves.

        Raises `StoreUnreachable` at the deadline: what became of the request is not known then.
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
                because="the service took the request and did not answer",
                hint="see whether it is overloaded, or its disk full; what was published before is there",
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
