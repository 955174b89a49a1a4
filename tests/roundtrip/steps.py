"""What the processes of `python -m tests.roundtrip` do: one stores every value, the other reads them."""

from __future__ import annotations

import json
import sys
import warnings

from penstock.storage.formats.typed.sameness import difference
from tests.roundtrip import flows, values_python


def store(wanted: list[tuple[str, str]]) -> list[dict[str, object]]:
    """Return how each value was stored."""
    rows: list[dict[str, object]] = []
    for group, name in wanted:
        (stored,) = flows.read.run(group, name).stored()
        rows.append({"group": group, "name": name, "codec": stored.record.codec, "size": stored.record.size})
    return rows


def read(wanted: list[tuple[str, str]]) -> list[str | None]:
    """Return how each value differs from the original; None if it does not. All values are read before any is made."""
    read = [flows.read(group, name) for group, name in wanted]
    return [
        difference(values_python.NEEDS[group][0]()[name], value)
        for (group, name), value in zip(wanted, read, strict=True)
    ]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    step, given = sys.argv[1], json.loads(sys.stdin.read())
    print(json.dumps({"store": store, "read": read}[step]([(group, name) for group, name in given])))
