"""Redis: addresses, credentials and the client that all parts share."""
