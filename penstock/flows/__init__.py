"""Flows: the decorator, its options and the `Flow` class."""

from penstock.flows.decorator import flow
from penstock.flows.definition import Flow

__all__ = ["Flow", "flow"]
