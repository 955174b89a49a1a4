"""The producer of results: a description of this process for records."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from penstock.imported import loaded
from penstock.storage.records.records import Producer

VALUE_PACKAGES = ("numpy", "pandas", "polars", "pyarrow", "pydantic", "scipy", "sklearn")
"""Data packages whose versions are stored in records."""


def this_process(*, run_id: str = "", flow: str = "") -> Producer:
    """Return a description of this process."""
    return Producer(
        host=_host(),
        pid=os.getpid(),
        run_id=run_id,
        flow=flow,
        python=platform.python_version(),
        penstock=_version(),
        packages=_packages(),
    )


@cache
def _host() -> str:
    return os.uname().nodename


def _packages() -> dict[str, str]:
    return {name: str(m.__version__) for name in VALUE_PACKAGES if hasattr(m := loaded(name), "__version__")}


@cache
def memory_bytes() -> int:
    """Return the memory of this machine, or the part of it that this process may use."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with Path("/sys/fs/cgroup/memory.max").open(encoding="ascii") as file:  # also where a test replaces `open`
            return min(whole, int(file.read()))
    except (OSError, ValueError):
        return whole  # no cgroup limit


@cache
def _version() -> str:
    from importlib import metadata  # slower to import than a lookup

    try:
        return str(metadata.version("penstock"))
    except metadata.PackageNotFoundError:
        return "not installed"
