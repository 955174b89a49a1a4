"""Source code in digests: syntax trees, compiled code, and the names that code uses."""
