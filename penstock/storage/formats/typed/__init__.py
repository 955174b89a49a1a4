"""Typed JSON: everyday values and objects, and whether two of them are the same."""
