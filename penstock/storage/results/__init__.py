"""Results over a store: found, published once per generation, read back, looked after."""
