"""What equal values have in common: digests of values and functions, the same everywhere for ever."""
