"""Performing calls on a worker, the same way on every engine."""
