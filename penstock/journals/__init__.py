"""What runs write down: their records, logs and parameters, and how these are removed."""
