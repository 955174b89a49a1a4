"""Run flows on Dask."""
