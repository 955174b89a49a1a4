"""Tools for tests: conformance suites for implementers, and fake clocks and stores."""
