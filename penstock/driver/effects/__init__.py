"""The effects of a driver's decisions: look-ups, locks, starts of limited tasks."""
