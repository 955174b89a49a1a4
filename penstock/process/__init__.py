"""The current process: its identity, its termination, and its `__main__` module."""
