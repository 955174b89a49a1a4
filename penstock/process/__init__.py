"""The process we run in: its identity, its end, and what `__main__` is in it."""
