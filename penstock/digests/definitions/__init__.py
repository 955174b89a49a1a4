"""What belongs to a definition besides its source: what was attached to it, made without a statement, or mentioned."""
