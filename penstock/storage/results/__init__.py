"""Results in a store: looking up, publishing, reading and maintaining them."""
