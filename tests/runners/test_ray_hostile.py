"""Hostile objects on Ray, passed in every way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.runners import RayRunner
from tests.runners.hostile_flows import check, every_way, quietly

pytestmark = [pytest.mark.evidence, pytest.mark.slow, pytest.mark.needs("ray", "psutil"), quietly]


@pytest.fixture(scope="module", autouse=True)
def own_ray(ray_environment: None) -> Iterator[None]:
    """A Ray for this module, shared by its tests."""
    with RayRunner(num_cpus=2):
        yield


@every_way
def test_hostile_objects_on_ray(tmp_path: Path, call: Any, kind: str) -> None:
    check(RayRunner(), tmp_path, call, kind)
