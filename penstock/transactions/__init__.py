"""Isolation levels of cache policies."""

from __future__ import annotations

from penstock.graph.policies import IsolationLevel

__all__ = ["IsolationLevel"]
