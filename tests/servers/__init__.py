"""Real servers for tests, on loopback, started from packages that need no installation and no root."""
