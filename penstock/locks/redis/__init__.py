"""Locks in a Redis: one script for each action, and messages for waiters."""
