"""Logs of users' code: the loggers it writes to, and how they are seen."""
