"""Versions that count for pickles: of this Python, and of the packages that are imported."""

from __future__ import annotations

import functools
import platform
import sys

PYTHON = ".".join(platform.python_version_tuple()[:2])
"""Byte code is of one minor version of Python."""


def version_of(package: str) -> str:
    """The version of an imported package; empty if it has none (a project's own module)."""
    found = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(found, str):
        return found
    return _installed(package)


@functools.cache
def _installed(package: str) -> str:
    from importlib import metadata  # takes longer to import than most pickles to write

    try:
        return metadata.version(package)
    except (metadata.PackageNotFoundError, ValueError):
        return ""
