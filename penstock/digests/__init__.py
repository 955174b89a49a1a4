"""Stable digests of values and functions: equal values have equal digests, on every machine and in every release."""
