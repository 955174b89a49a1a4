"""Write the golden files of typed JSON: `python -m tests.roundtrip.golden`. Only for new values."""

from __future__ import annotations

import json
import pathlib

from penstock.storage.formats.typed.json import encode
from tests.roundtrip import values_python

FOLDER = pathlib.Path(__file__).parents[1] / "storage" / "golden_values"


def write() -> None:
    """Write one file per group, with the text of each value by its name."""
    for group, (make, _) in values_python.NEEDS.items():
        kept = {n: encode(v).decode() for n, v in make().items() if values_python.codec_of(group, n) == "json/typed"}
        text = json.dumps(kept, indent=0, ensure_ascii=True)
        (FOLDER / f"{group}.json").write_text(text + "\n")


if __name__ == "__main__":
    write()
