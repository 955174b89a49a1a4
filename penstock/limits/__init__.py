"""Named limits and rates: how many tasks with a tag may run, or begin in a time."""
