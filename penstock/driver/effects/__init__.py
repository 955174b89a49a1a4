"""The effects of a driver's decisions: lookups, locks, starts of limited tasks."""
