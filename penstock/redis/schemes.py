"""How addresses begin that mean a Redis."""

from __future__ import annotations

REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
