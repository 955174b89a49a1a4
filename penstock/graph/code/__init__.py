"""The code of tasks as people are told of it: what was noted, and what differs."""
