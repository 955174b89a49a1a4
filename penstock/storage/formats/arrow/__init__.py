"""Arrow and Parquet files: written one way, checked before they are parsed."""
