"""Typed JSON: the format of everyday values and objects, and the comparison of values."""
