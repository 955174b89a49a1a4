"""Versions that matter for pickles: of Python and of imported packages."""

from __future__ import annotations

import functools
import platform
import sys

PYTHON = ".".join(platform.python_version_tuple()[:2])
"""The minor version, which byte code depends on."""


def version_of(package: str) -> str:
    """Return the version of an imported package; empty if it has none, like a project's own module."""
    found = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(found, str):
        return found
    return _installed(package)


@functools.cache
def _installed(package: str) -> str:
    from importlib import metadata  # slow to import

    try:
        return metadata.version(package)
    except (metadata.PackageNotFoundError, ValueError):
        return ""
