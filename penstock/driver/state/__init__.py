"""What a driver knows of its run, and how it may change."""
