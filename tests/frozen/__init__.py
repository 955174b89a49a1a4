"""A small store written by an earlier version, with its flows. Every later version must find all of its results."""
