"""Import the package of an engine when a run needs it."""

from __future__ import annotations

import importlib
from typing import Any

from penstock.errors import RunnerError


def imported(package: str, *, engine: str, extra: str) -> Any:
    """Import and return a package.

    Raises:
        RunnerError: It is not installed. The hint says how to install it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise RunnerError(
            f"{engine} is not installed", because=str(error), hint=f'pip install "penstock[{extra}]"'
        ) from error
