"""What the workers of every cluster do with bundles."""
