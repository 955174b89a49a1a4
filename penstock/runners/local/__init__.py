"""Runners on this machine: threads and processes."""
