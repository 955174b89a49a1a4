"""Every kind of value, stored and read again."""
