"""What happens to calls on a worker, the same on every engine."""
