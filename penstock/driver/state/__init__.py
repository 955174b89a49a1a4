"""The state of a run in its driver, and its transitions."""
