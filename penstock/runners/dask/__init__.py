"""Runs on Dask."""
