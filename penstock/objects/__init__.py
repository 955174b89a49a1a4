"""Users' objects as they come: their texts, what in them is secret, live or to be found where."""
