"""The connection of this process to Ray. A process has only one, so runs share it, and the last run ends it.

A Ray that is started here listens on this machine only, unless its options state another address, because every process
that reaches a Ray can run code in it.

The processes of a Ray end with the thread that started it, so that is a thread which stays until the end.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from penstock.errors import RunnerError
from penstock.imported import loaded
from penstock.runners.options import check_options
from penstock.runners.ray.answers import check_answers, host_and_port, of_this_machine
from penstock.runners.ray.internals import on_loopback, raylet_socket
from penstock.runners.ray.prints import PRINTS
from penstock.runners.remote.connecting import Keeper
from penstock.runners.remote.packages import imported

CONNECT_SECONDS = 120.0
"""The longest time for connecting, in seconds. One try over `ray://` takes up to 30 s."""
START_SECONDS = 300.0
"""The longest time for starting a Ray, in seconds. On an idle machine it takes a few."""
_TRIES, _TRY_SECONDS = 8, 30.0  # a start, or that of a server for this client, gives up after so long
_NO_CLUSTER = "see whether the cluster is up, and the logs of its server for clients"
_NO_START = (
    "see the reason, whether this machine has time and memory left, and the logs in session_latest/logs below /tmp/ray "
    "or $RAY_TMPDIR/ray; `with RayRunner() as runner:` starts one Ray for many runs"
)


class _Process:
    """The connection of this process to Ray, and its users."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._users: set[object] = set()
        self._address: str | None = None
        self._keeper: Keeper | None = None
        self._is_lost = False

    @property
    def is_client(self) -> bool:
        """Whether calls pass through the cluster's server for clients (`ray://`)."""
        import ray.util.client

        client: Any = ray.util.client.ray
        return bool(client.is_connected())

    def is_own(self, address: str | None) -> bool:
        """Return whether a runner with this address uses a Ray that is started for it on this machine."""
        with self._guard:
            if self._keeper is not None:
                return self._address is None
        return _wanted(address) is None and not _is_initialized()

    def join(self, address: str | None, options: Mapping[str, Any]) -> object:
        """Connect if necessary, and return a new user, for `leave`.

        Raises `RunnerError` if that fails, or if this process is connected to another Ray.
        """
        ray = imported("ray", engine="Ray", extra="ray")
        with self._guard:
            user = object()
            if self._keeper is not None and (self._is_lost or not ray.is_initialized()):
                self._keeper.end()  # the cluster is lost, or other code shut Ray down
                self._keeper, self._users = None, set()
            if self._keeper is None and not ray.is_initialized():
                wanted = _wanted(address)
                patience, hint = (CONNECT_SECONDS, _NO_CLUSTER) if wanted else (START_SECONDS, _NO_START)
                until = time.monotonic() + patience - _TRY_SECONDS  # later, nobody would wait for another try
                if "runtime_env" in options:
                    patience = math.inf  # it may install packages
                if "://" not in (wanted or ""):
                    PRINTS.begin(prints=bool(options.get("log_to_driver", True)))
                try:
                    self._keeper = Keeper(
                        lambda: _connect(ray, wanted, options, until),
                        lambda: _disconnect(ray),
                        patience=patience,
                        # If a server for clients cannot start, Ray's client waits for ever.
                        refusal=lambda because: RunnerError("cannot connect to Ray", because=because, hint=hint),
                        name="penstock-ray",
                    )
                except BaseException:
                    PRINTS.end()
                    raise
                self._address, self._is_lost = wanted, False
            elif address is not None:
                self._check_same(ray, address)
            if self._keeper is not None:
                self._users.add(user)
            return user

    def leave(self, user: object) -> None:
        """Remove a user. The last one ends a connection that `join` opened."""
        with self._guard:
            if user not in self._users:
                return  # the connection was not opened here
            self._users.discard(user)
            if not self._users and self._keeper is not None:
                self._keeper.end()
                self._keeper = None

    def lost(self) -> None:
        """Note that the cluster is lost, so that the next `join` connects again."""
        self._is_lost = True

    def place(self) -> dict[str, str | None]:
        """Return the address of the `head`, the `node` to which this process is connected, and its `raylet`."""
        import ray

        if self.is_client:
            address = self._address if self._keeper is not None else None
            return {"head": address and host_and_port(address), "node": None, "raylet": None}
        context = ray.get_runtime_context()
        return {"head": context.gcs_address, "node": context.get_node_id(), "raylet": raylet_socket()}

    def _check_same(self, ray: Any, address: str) -> None:
        if address == "auto" or (self._keeper is not None and address == self._address):
            return
        if self._keeper is None and address.startswith("ray://") == self.is_client:
            port = address.rpartition(":")[2]
            if self.is_client or ray.get_runtime_context().gcs_address.rpartition(":")[2] == port:
                return
        raise RunnerError(
            f"this process is connected to another Ray than {address}",
            because="a process has one connection to Ray at a time",
            hint="end the other one first (ray.shutdown()), or run the flow in a process of its own",
        )


PROCESS = _Process()


def _is_initialized() -> bool:
    ray = loaded("ray")  # without an import there is no connection
    return ray is not None and bool(ray.is_initialized())


def _wanted(address: str | None) -> str | None:
    for each in (address, os.environ.get("RAY_ADDRESS")):
        if each and each != "local":
            return each
    return None


def _connect(ray: Any, address: str | None, options: Mapping[str, Any], until: float, failed: int = 0) -> None:
    quiet = {"log_to_driver": True, "logging_level": logging.ERROR}
    try:
        if address is None:
            with on_loopback(options):
                ray.init("local", **{"include_dashboard": False, **quiet, **options})
            return
        told = f"{address} (RAY_ADDRESS)" if address == os.environ.get("RAY_ADDRESS") else address
        if address == "auto":
            address = of_this_machine(options)
            told = f"{address} (auto)"
        check_answers(address, told)
        if "://" in address:
            logging.getLogger("ray").setLevel(logging.ERROR)
        ray.init(address, **{**({} if "://" in address else quiet), **options})
    except RunnerError:
        raise
    except Exception as error:
        with contextlib.suppress(Exception):
            ray.shutdown()  # end a partial connection
        if "Unknown keyword argument" in str(error):
            check_options("the RayRunner, or ray.init,", options, ray.init)
        if failed + 1 < _TRIES and time.monotonic() < until and _may_pass(error, address):
            _connect(ray, address, options, until, failed + 1)
            return
        raise _explained(error, address) from error


def _may_pass(error: Exception, address: str | None) -> bool:
    """Return whether to try again: under load Ray gives up on processes that it started itself."""
    if address is None:
        return "timed out" in str(error)
    return address.startswith("ray://") and isinstance(error, ConnectionError)  # it starts one for each client


def _disconnect(ray: Any) -> None:
    try:
        ray.shutdown()
    finally:
        PRINTS.end()


def _explained(error: Exception, address: str | None) -> RunnerError:
    text = str(error).strip()
    if address is None:
        what, hint = "Ray does not start on this machine", _NO_START
    elif "ersion mismatch" in text:
        what = "this process and the Ray cluster are of different versions"
        hint = "install the cluster's Python and Ray"
    elif isinstance(error, ImportError):
        what, hint = "a package for connections to Ray is not installed", "pip install 'ray[client]'"
    else:
        what = "cannot connect to Ray"
        hint = "see whether the cluster is up, of the same version, and wants a token (RAY_AUTH_MODE, RAY_AUTH_TOKEN)"
    return RunnerError(what, where=address or "", because=text or type(error).__name__, hint=hint)
