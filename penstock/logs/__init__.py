"""Logs of users' code: its loggers, and showing their records."""
