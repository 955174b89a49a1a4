"""The code of tasks for people: notes of it, the differences between them, and why it has no digest."""
