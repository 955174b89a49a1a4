"""The package of an engine, imported when a run needs it."""

from __future__ import annotations

import importlib
from typing import Any

from penstock.errors import RunnerError


def imported(package: str, *, engine: str, extra: str) -> Any:
    """The package. Raises `RunnerError`, which says how to install it, if it is not there."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise RunnerError(
            f"{engine} is not installed", because=str(error), hint=f'pip install "penstock[{extra}]"'
        ) from error
