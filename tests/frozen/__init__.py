"""A small store that an earlier version wrote, and the flows that wrote it: every later version finds all of it."""
