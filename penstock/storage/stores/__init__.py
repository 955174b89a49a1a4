"""Stores of small records and large payloads: folders, memory, buckets."""
