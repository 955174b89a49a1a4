"""Dispatching: grouping ready calls into bundles, and submitting these."""
