"""A Redis: its address, its credentials and the one client that all parts use."""
