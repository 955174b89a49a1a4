"""Explanations of misses: comparing keys with the most similar earlier ones, and code with code notes."""
