"""`python -m tests.branches FILE PERCENT`: whether the tests reach so many branches, by the JSON report of coverage."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(report: str, wanted: str) -> int:
    """Print how many branches are reached, and the modules with the most that are not. Return the exit code."""
    told = json.loads(Path(report).read_text(encoding="utf-8"))
    reached, there = told["totals"]["covered_branches"], told["totals"]["num_branches"]
    left = {name: each["summary"]["missing_branches"] for name, each in told["files"].items()}
    for name in sorted(left, key=lambda name: -left[name])[:10]:
        print(f"{left[name]:6} of the branches of {name} are reached by no test")
    print(f"{reached} of {there} branches are reached: {100 * reached / there:.1f} %, and {wanted} % are wanted")
    return int(100 * reached < float(wanted) * there)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
