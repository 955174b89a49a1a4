"""Serialising what is sent between a driver and its workers: code, values, bundles and outcomes."""
