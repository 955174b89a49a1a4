"""Compare keys and values of the lowest supported versions and the latest over one store.

    python -m tests.versions [FOLDER]

This creates (or reuses) two environments in FOLDER (default: build/versions), lets each write every kind of value and
the other one read it, and compares the keys of code in many layouts. It prints all differences. A key may differ where
docs/keys.md says so. A value may be refused, computed again, or restored as the reader's own library makes it of the
same data. One that silently changes fails the comparison.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.versions.environments import LATEST_PYTHON, LOWEST_PYTHON, ROOT, environment, requirements

Answer = dict[str, Any]
SAID_IN_THE_DOCS = frozenset({"pandas: text objects none", "pandas: text objects nan", "pandas: string python nan"})
"""Text stored as objects by pandas 2 is restored as pandas 3 stores text, and vice versa: docs/values.md."""


def main(folder: Path) -> int:
    """Return the number of values that changed silently, and of keys over code that differ."""
    pythons = {
        "lowest": environment(folder / "lowest", LOWEST_PYTHON, requirements(lowest=True)),
        "latest": environment(folder / "latest", LATEST_PYTHON, requirements(lowest=False)),
    }
    with tempfile.TemporaryDirectory() as scratch:
        wrote = {name: _probe(python, "write", Path(scratch), name, name) for name, python in pythons.items()}
        read = {
            "lowest": _probe(pythons["lowest"], "read", Path(scratch), "latest", "lowest"),
            "latest": _probe(pythons["latest"], "read", Path(scratch), "lowest", "latest"),
        }
    bad = _compare_keys(wrote) + _compare_values(wrote, read)
    print(f"\n{bad} silent differences")
    return bad


def _probe(python: Path, mode: str, scratch: Path, store: str, name: str) -> Answer:
    out = scratch / f"{name}-{mode}.json"
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PENSTOCK_HOME": str(scratch / "home"),
        "PYTHONHASHSEED": "random",
    }
    command = [str(python), "-W", "ignore", "-m", "tests.versions.probe", mode, str(scratch / store), str(out)]
    code = scratch / f"code-{name}-{mode}"  # checkouts differ, keys do not
    subprocess.run([*command, str(code)], cwd=ROOT, env=environ, check=True)
    answer: Answer = json.loads(out.read_text(encoding="utf-8"))
    return answer


def _compare_keys(wrote: dict[str, Answer]) -> int:
    low, new = wrote["lowest"]["keys"], wrote["latest"]["keys"]
    different = [name for name in low if low[name] != new.get(name)]
    print(f"keys over code: {len(low) - len(different)} of {len(low)} agree")
    for name in different:
        print(f"  {name}\n    {low[name]}\n    {new.get(name)}")
    return len(different)


def _compare_values(wrote: dict[str, Answer], read: dict[str, Answer]) -> int:
    low, new = wrote["lowest"]["digests"], wrote["latest"]["digests"]
    both = [name for name in low if name in new]
    different = [name for name in both if low[name] != new[name]]
    print(f"digests of values: {len(both) - len(different)} of {len(both)} agree")
    for name in different:
        print(f"  {name}: {low[name][:90]} {new[name][:90]}")
    for name, why in sorted({**wrote["lowest"]["failed"], **wrote["latest"]["failed"]}.items()):
        print(f"  not made in one of them: {name}: {why}")
    return sum(
        _compare_reads(writer, wrote[writer], reader, read[reader])
        for writer, reader in (("lowest", "latest"), ("latest", "lowest"))
    )


def _compare_reads(writer: str, wrote: Answer, reader: str, read: Answer) -> int:
    counts = {"equal": 0, "as made here": 0, "computed again": 0, "told": 0, "silently another": 0}
    print(f"values written by {writer} and read by {reader}:")
    for name, there in wrote["stored"].items():
        here = read["stored"].get(name)
        if here is None:
            continue
        original = wrote["digests"][name]
        compared = here.get("digest"), original
        if original.startswith("no digest"):  # then the repr is the best comparison
            compared = _bare(here), _bare(there)
        kind, text = "silently another", here.get("panic") or f"{there.get('repr')}\n    {here.get('repr')}"
        if "told" in here or "told" in there:
            kind, text = "told", here.get("told") or f"when written: {there.get('told')}"
        elif "computed" in here:
            kind, text = "computed again", ""
        elif compared[0] == compared[1]:
            kind, text = "equal", ""
        elif (
            here.get("digest") == read["digests"].get(name) or name in SAID_IN_THE_DOCS
        ):  # text, for example: docs/keys.md, section 8
            kind, text = "as made here", ""
        counts[kind] += 1
        if text:
            print(f"  {kind}: {name}: {text}")
    print("  " + ", ".join(f"{number} {kind}" for kind, number in counts.items()))
    return counts["silently another"]


def _bare(said: dict[str, str]) -> str:
    return re.sub(r"0x[0-9a-f]+", "0x", said.get("repr", said.get("panic", "")))


if __name__ == "__main__":
    sys.exit(1 if main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "versions") else 0)
