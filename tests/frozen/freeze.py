"""Write a store with the frozen flows: `python -m tests.frozen.freeze FOLDER`, once per layout or kind of key."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from penstock.digests.python import digest
from tests.frozen import flows

FOLDER = Path(__file__).parent


def main(folder: Path) -> None:
    """Fill `folder/store`, and describe its content in `folder/expected.json`."""
    store = folder / "store"
    os.environ["PENSTOCK_STORE"] = str(store.resolve())
    os.chdir(FOLDER)
    values = flows.everything(5, "files")
    said = subprocess.run([sys.executable, "script.py"], check=True, capture_output=True, text=True).stdout
    expected = {"values": {name: digest(value) for name, value in values.items()}, "script": said.splitlines()[-1]}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
    for left_out in ("runs", "locks", ".tmp"):  # logs and locks are not part of the promise
        shutil.rmtree(store / left_out, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
