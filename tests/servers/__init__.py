"""Real servers for tests, on loopback, started from packages that need neither installation nor root."""
