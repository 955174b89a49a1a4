"""Values in several files: datasets and the parts of containers."""
