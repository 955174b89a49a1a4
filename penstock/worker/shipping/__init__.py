"""What travels between a driver and its workers: code, values, bundles and outcomes."""
