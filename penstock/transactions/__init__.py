"""How strongly the work behind a key is isolated: the levels a cache policy is configured with."""

from __future__ import annotations

from penstock.graph.policies import IsolationLevel

__all__ = ["IsolationLevel"]
