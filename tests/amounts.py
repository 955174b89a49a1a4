"""How many examples a campaign tries: CI has more time than somebody who waits for `make test`."""

from __future__ import annotations

import os


def amount(*, here: int, in_ci: int) -> int:
    """Return the number of examples, which `CI=true` chooses."""
    return in_ci if os.environ.get("CI") == "true" else here
