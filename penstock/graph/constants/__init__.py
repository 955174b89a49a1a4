"""The values that a task's code reads from outside of itself, and whether they change while a flow runs."""
