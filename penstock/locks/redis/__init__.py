"""Locks in a Redis: one script for each action, messages for who waits."""
