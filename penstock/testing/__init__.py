"""What users and implementers of Penstock test with: conformance suites, and time and failure as arguments."""
