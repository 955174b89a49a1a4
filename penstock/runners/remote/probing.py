"""Whether anything listens at an address, without the client of whatever it is: those may try for minutes."""

from __future__ import annotations

import socket

Place = tuple[str, int]
"""A host and a port."""


def place_of(address: str) -> Place:
    """Of `host:port`, or `[host]:port`. Raises `ValueError` for what is neither."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def check_listens(place: Place, seconds: float) -> None:
    """Raise `OSError` if nothing takes a connection there."""
    socket.create_connection(place, timeout=seconds).close()


def check_speaks_first(place: Place, seconds: float) -> None:
    """Raise `OSError` unless what listens there says something unasked."""
    with socket.create_connection(place, timeout=seconds) as connection:
        if not connection.recv(1):
            raise ConnectionError("what listens there hangs up")


def is_dead(unix_socket: str, seconds: float) -> bool:
    """Whether the process is gone that listened at a socket of this machine."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(seconds)
        try:
            line.connect(unix_socket)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            pass  # it has too much to do
    return False
