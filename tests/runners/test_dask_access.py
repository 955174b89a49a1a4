"""A Dask cluster that is started for a run accepts only that run, and nobody else on the machine."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import Any

import pytest

from penstock import flow, task
from penstock.runners import DaskRunner
from penstock.settings import load_settings

pytestmark = [pytest.mark.slow, pytest.mark.needs("distributed", "cryptography")]


@task
def double(n: int) -> int:
    return n * 2


@flow
def doubles(count: int) -> int:
    return sum(double(n) for n in range(count))


def reached(address: str, **options: Any) -> Exception | None:
    """Return the result of a request to the scheduler."""
    comm = importlib.import_module("distributed.core")

    async def ask() -> None:
        async with comm.rpc(address, timeout=5, **options) as scheduler:
            await scheduler.identity()

    try:
        asyncio.run(asyncio.wait_for(ask(), 60))
    except Exception as error:  # noqa: BLE001 (whatever keeps us out)
        return error
    return None


def test_a_cluster_started_for_a_run_accepts_nobody_else(tmp_path: Path) -> None:
    distributed = importlib.import_module("distributed")
    settings = load_settings(overrides={"store": str(tmp_path / "store")})
    with DaskRunner(workers=1) as runner:
        assert runner(doubles).run_with({"count": 3}, settings=settings).result() == 6
        cluster = runner._kept
        address = cluster.scheduler_address
        assert address.startswith("tls://127.0.0.1:")
        assert reached(address, connection_args=cluster.security.get_connection_args("client")) is None
        stranger = distributed.Security.temporary()
        for odd, options in (
            (address, {"connection_args": stranger.get_connection_args("client")}),
            (address.replace("tls://", "tcp://"), {}),
        ):
            assert reached(odd, **options) is not None


def test_cluster_options_of_the_user_stay_unchanged(tmp_path: Path) -> None:
    with DaskRunner(workers=1, security=None) as runner:
        assert runner._kept.scheduler_address.startswith("tcp://127.0.0.1:")
