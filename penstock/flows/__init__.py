"""What users call flows: the decorator, its options, and what it makes of a function."""

from penstock.flows.decorator import flow
from penstock.flows.definition import Flow

__all__ = ["Flow", "flow"]
