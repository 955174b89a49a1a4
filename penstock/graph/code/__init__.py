"""Notes of tasks' code for people, and the differences between them."""
