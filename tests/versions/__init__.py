"""One store, two environments, the lowest supported versions and the latest: `python -m tests.versions`."""
