"""pandas values as Arrow tables with metadata that preserves everything."""
