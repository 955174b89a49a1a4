"""Which ready calls travel together, and when."""
