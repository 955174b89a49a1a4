"""Arrow and Parquet files: writing them, and checking them before they are parsed."""
