"""Whether a Ray cluster answers at an address, and lets this process in: Ray's own clients try for minutes to find out.

Any gRPC server answers the first bytes of HTTP/2 with its settings, and a call with its status: that is all that is
asked for here, so that no package for gRPC is needed.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Any

from penstock.errors import RunnerError

ANSWER_SECONDS = 20.0
"""How long an address may take to answer before it counts as dead: a machine with too much to do may take some."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""How a client of HTTP/2 begins, with its settings left as they are."""
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_ACKNOWLEDGED = _END_OF_STREAM = 1
_END_OF_HEADERS = 4
_STATUS, _UNAUTHENTICATED = b"grpc-status", b"grpc-status\x0216"
_UP = "see whether it is up and the port open; an address that a Ray left behind is forgotten by `ray stop`"
_NAMES_PLACE = "ray://host:10001, or host:6379 on a machine of the cluster"


def check_answers(address: str, told: str) -> None:
    """Raise `RunnerError` unless something that speaks gRPC answers there, and accepts this process's token if any.

    `told` is how people know the address.
    """
    host, _, port = host_and_port(address).rpartition(":")
    if not port.isdigit():
        raise RunnerError("this is no address of a Ray cluster", where=told, hint=_NAMES_PLACE)
    place = (host.strip("[]"), int(port))
    try:
        with socket.create_connection(place, timeout=ANSWER_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return  # it would want a certificate first
            connection.sendall(_PREFACE)
            answer = connection.recv(9)
            speaks = len(answer) > 3 and answer[3] == _SETTINGS
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
    """The address that Ray means by `auto`. Raises `RunnerError` if there is none."""
    from ray._private import services  # there is no public way
    from ray._private.authentication import authentication_token_setup as setup

    with contextlib.suppress(AttributeError):  # Rays before 2.60 have no such default
        setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        return str(services.get_ray_address_from_environment("auto", options.get("_temp_dir")))
    except ConnectionError as error:
        raise RunnerError(
            "no Ray cluster runs on this machine",
            where="auto",
            because=str(error).partition(".")[0],
            hint="start one (ray start --head), or name the address of another one",
        ) from error


def host_and_port(address: str) -> str:
    """The address without what stands around it, and with the port that it goes without saying."""
    place = address.rpartition("://")[2].partition("?")[0]
    return f"{place}:10001" if _is_client(address) and ":" not in place else place


def _is_client(address: str) -> bool:
    return address.startswith("ray://")


def _is_refused(connection: socket.socket, address: str) -> bool:
    """Whether a harmless call with our token, if we have one, is refused for want of the right one."""
    ping = ("/ray.rpc.RayletDriver/ClusterInfo", b"\x08\x06")
    path, message = ping if _is_client(address) else ("/ray.rpc.NodeInfoGcsService/CheckAlive", b"")
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": host_and_port(address),
        "content-type": "application/grpc",
        "te": "trailers",
        **_token(),
    }
    call = _frame(_HEADERS, _END_OF_HEADERS, 1, b"".join(_literal(*each) for each in headers.items()))
    data = _frame(_DATA, _END_OF_STREAM, 1, b"\0" + len(message).to_bytes(4, "big") + message)
    answer = b""
    with contextlib.suppress(OSError):  # no answer to this is no refusal
        connection.sendall(_frame(_SETTINGS, _ACKNOWLEDGED, 0, b"") + call + data)
        while _STATUS not in answer[:-4] and (more := connection.recv(4096)):
            answer += more
    return _UNAUTHENTICATED in answer


def _token() -> dict[str, str]:
    """The header with the token that Ray will send from here."""
    from ray._private.authentication.http_token_authentication import (  # there is no public way
        get_auth_headers_if_auth_enabled,
    )
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    if not AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
        return {}  # asked for one that is not there, Ray ends the process
    headers: dict[str, Any] = get_auth_headers_if_auth_enabled({})
    return {name.lower(): str(value) for name, value in headers.items()}


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


def _literal(name: str, value: str) -> bytes:
    """A header as it is, neither compressed nor remembered."""
    return b"\0" + _text(name) + _text(value)


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    length, rest = b"\x7f", len(data) - 127  # in the seven bits that follow, and as many more as it takes
    while rest > 127:
        length, rest = length + bytes([rest % 128 + 128]), rest // 128
    return length + bytes([rest]) + data
