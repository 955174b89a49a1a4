"""Stores in S3 and in services that speak its protocol."""
