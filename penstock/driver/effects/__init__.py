"""What a driver decides, carried out: look-ups, locks, starts of limited tasks."""
