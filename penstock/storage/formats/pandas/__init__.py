"""pandas' values as Arrow tables that say what a table alone does not."""
