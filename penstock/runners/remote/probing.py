"""Check whether a server listens at an address, without its client, which may try for minutes."""

from __future__ import annotations

import socket

Place = tuple[str, int]
"""A host and a port."""


def place_of(address: str) -> Place:
    """Return the host and port of `host:port` or `[host]:port`. Raises `ValueError` for other texts."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def check_listens(place: Place, seconds: float) -> None:
    """Raise `OSError` if no server accepts a connection."""
    socket.create_connection(place, timeout=seconds).close()


def check_speaks_first(place: Place, seconds: float) -> None:
    """Raise `OSError` unless a server sends something without a request."""
    with socket.create_connection(place, timeout=seconds) as connection:
        if not connection.recv(1):
            raise ConnectionError("what listens there hangs up")


def is_dead(unix_socket: str, seconds: float) -> bool:
    """Return whether the process that listened at a Unix socket has ended."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(seconds)
        try:
            line.connect(unix_socket)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            pass  # it is busy
    return False
