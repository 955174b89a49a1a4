"""A TCP proxy that forwards connections or closes them, as a test decides."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def gate(port: int, lets_in: Callable[[int], bool]) -> Iterator[int]:
    """Yield the port of a proxy for another port of this machine.

    Connections are closed at once if `lets_in` returns False for their number, from 0.
    """
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        thread = threading.Thread(target=_serve, args=(server, port, lets_in))
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown, socket.SHUT_RDWR)  # which ends `accept`
        yield server.getsockname()[1]


def _serve(server: socket.socket, port: int, lets_in: Callable[[int], bool]) -> None:
    threads: list[threading.Thread] = []
    with contextlib.ExitStack() as stack:
        number = 0
        with contextlib.suppress(OSError):  # the test has ended
            while True:
                client = stack.enter_context(server.accept()[0])
                if lets_in(number):
                    upstream = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                    threads += [
                        threading.Thread(target=_pass_on, args=ways)
                        for ways in ((client, upstream), (upstream, client))
                    ]
                    for each in threads[-2:]:
                        each.start()
                    stack.callback(_hang_up, client, upstream)
                else:
                    client.close()
                number += 1
    for each in threads:
        each.join()


def _pass_on(here: socket.socket, there: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := here.recv(65536):
            there.sendall(data)
    _hang_up(here, there)


def _hang_up(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
