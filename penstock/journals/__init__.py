"""Journals of runs: their records, logs and parameters, and the removal of these."""
