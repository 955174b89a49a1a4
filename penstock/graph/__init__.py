"""The task graph and its keys. Pure: no files, network or threads."""
