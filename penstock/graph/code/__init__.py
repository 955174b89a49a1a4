"""Code notes of tasks for people, and the differences between them."""
