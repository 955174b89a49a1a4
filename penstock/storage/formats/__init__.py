"""Formats of values: what turns a value into bytes and back."""
