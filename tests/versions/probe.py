"""Run in one of the environments: digests and keys as JSON, values written to a store and read from one.

python -m tests.versions.probe write STORE OUT CODE    publish each value, return its digest
python -m tests.versions.probe read STORE OUT CODE     read what another environment published, return its digest
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from penstock import INPUTS, task
from penstock.digests.python import digest
from penstock.errors import PenstockError
from tests.versions import layouts
from tests.versions.values import values


def main(mode: str, store: str, out: str, code: str) -> None:
    """Write the findings to the file `out`."""
    warnings.simplefilter("ignore")
    found, failed = values()
    answer: dict[str, Any] = {"digests": {name: _digest(value) for name, value in found.items()}, "failed": failed}
    answer["stored"] = {name: _stored(name, value, store, mode) for name, value in found.items()}
    answer["keys"] = layouts.keys(Path(code))
    Path(out).write_text(json.dumps(answer), encoding="utf-8")


def _digest(value: Any) -> str:
    try:
        return digest(value)
    except PenstockError as error:
        return f"no digest: {error.what}"


def _stored(name: str, value: Any, store: str, mode: str) -> dict[str, str]:
    """Publish a value or read it; return its digest, or the error instead."""
    computed: list[int] = []

    def make(name: str) -> Any:
        computed.append(1)
        return value

    made = task(cache_policy=INPUTS, key_name=f"versions.{Path(store).name}", result_storage=store)(make)
    try:
        got = made(name)
    except Exception as error:  # noqa: BLE001 - a refusal is an answer; which one it is, is told
        return {"told": f"{type(error).__name__}: {error}".partition("\n")[0][:200]}
    except BaseException as error:  # noqa: BLE001 - polars' panics are no Exceptions
        return {"panic": f"{type(error).__name__}: {error}"[:200]}
    said = {"digest": _digest(got), "repr": _shown(got)}
    return said | ({"computed": "again"} if computed and mode == "read" else {})


def _shown(value: Any) -> str:
    try:
        return repr(value)[:200]
    except Exception as error:  # noqa: BLE001 - some values are made to fail here
        return f"{type(value).__qualname__}: {type(error).__name__}"


if __name__ == "__main__":
    main(*sys.argv[1:])
