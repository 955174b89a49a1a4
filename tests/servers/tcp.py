"""A TCP proxy that lets connections through, or hangs up on them, as a test says."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def gate(port: int, lets_in: Callable[[int], bool]) -> Iterator[int]:
    """Yields the port of a proxy for another one on this machine.

    Connections for whose number, from 0, `lets_in` says no are closed at once.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server, port, lets_in), daemon=True).start()
        yield server.getsockname()[1]


def _serve(server: socket.socket, port: int, lets_in: Callable[[int], bool]) -> None:
    number = 0
    with contextlib.suppress(OSError):  # it was closed: the test is over
        while True:
            client, _ = server.accept()
            if lets_in(number):
                upstream = socket.create_connection(("127.0.0.1", port))
                for here, there in ((client, upstream), (upstream, client)):
                    threading.Thread(target=_pass_on, args=(here, there), daemon=True).start()
            else:
                client.close()
            number += 1


def _pass_on(here: socket.socket, there: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := here.recv(65536):
            there.sendall(data)
    for each in (here, there):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
