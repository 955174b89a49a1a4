"""Limits and rates of tags: how many tasks may run at once, or start within a period."""
