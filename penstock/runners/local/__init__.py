"""Runs on this machine: in threads or in processes."""
