"""Two pipelines over the TPC-H tables that share their features: churn and next-quarter revenue."""
