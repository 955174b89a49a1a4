"""Source code as it counts in digests: syntax trees, compiled code, and the names it uses."""
