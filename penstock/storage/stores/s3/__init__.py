"""Stores in S3 and compatible services."""
