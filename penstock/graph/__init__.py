"""The task graph and its keys: pure, no file, no network, no thread."""
