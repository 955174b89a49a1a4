"""Run flows on Ray."""
