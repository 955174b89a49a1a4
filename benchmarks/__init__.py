"""Measurements behind the promises: `python -m benchmarks` runs them all, `python -m benchmarks tracing` some."""
