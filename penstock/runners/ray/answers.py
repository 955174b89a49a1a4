"""Check whether a Ray cluster answers and accepts this process. Ray's own clients try for minutes."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from penstock.errors import RunnerError
from penstock.runners.ray.internals import default_address, token_headers
from penstock.runners.remote.grpc_calls import UNAUTHENTICATED, call, greets
from penstock.runners.remote.probing import place_of

ANSWER_SECONDS = 20.0
"""How long to wait for an answer, in seconds: a busy machine may need some."""
_UP = "see whether it is up and the port open; an address that a Ray left behind is forgotten by `ray stop`"
_NAMES_PLACE = "ray://host:10001, or host:6379 on a machine of the cluster"


def check_answers(address: str, told: str) -> None:
    """Raise `RunnerError` unless a gRPC server answers that accepts the token of this process, if any.

    `told` is the address for messages.
    """
    try:
        place = place_of(host_and_port(address))
    except ValueError as error:
        raise RunnerError("this is no address of a Ray cluster", where=told, hint=_NAMES_PLACE) from error
    try:
        with socket.create_connection(place, timeout=ANSWER_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return  # the server would first require a certificate
            speaks = greets(connection)
            refused = speaks and _is_refused(connection, address)
    except OSError as error:
        raise RunnerError("no Ray cluster answers", where=told, because=str(error), hint=_UP) from error
    if not speaks:
        raise RunnerError(
            "no Ray cluster answers", where=told, because="what answers there is something else", hint=_NAMES_PLACE
        )
    if refused:
        raise RunnerError(
            "the Ray cluster does not let this process in",
            where=told,
            because="it wants its token, and got none or another one",
            hint="set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN=... (or RAY_AUTH_TOKEN_PATH=...) to the cluster's token, "
            "which `ray get-auth-token` shows on its head",
        )


def of_this_machine(options: Mapping[str, Any]) -> str:
    """Return the address that Ray uses for `auto`. Raises `RunnerError` if there is none."""
    try:
        return default_address(options.get("_temp_dir"))
    except ConnectionError as error:
        raise RunnerError(
            "no Ray cluster runs on this machine",
            where="auto",
            because=str(error).partition(".")[0],
            hint="start one (ray start --head), or name the address of another one",
        ) from error


def host_and_port(address: str) -> str:
    """Return the host and port of an address, with the default port for `ray://`."""
    place = address.rpartition("://")[2].partition("?")[0]
    return f"{place}:10001" if _is_client(address) and ":" not in place else place


def _is_client(address: str) -> bool:
    return address.startswith("ray://")


def _is_refused(connection: socket.socket, address: str) -> bool:
    """Return whether a harmless call is refused because of a missing or wrong token."""
    ping = ("/ray.rpc.RayletDriver/ClusterInfo", b"\x08\x06")
    path, message = ping if _is_client(address) else ("/ray.rpc.NodeInfoGcsService/CheckAlive", b"")
    where = host_and_port(address)
    return UNAUTHENTICATED in call(connection, authority=where, path=path, message=message, headers=token_headers())
